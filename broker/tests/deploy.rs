//! What `deploy/` says about a node is what the node does: its files are valid, and agree with the code.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use bongsu::config::{self, Loaded, Settings, SettingsArgs};
use bongsu::limits::{LIVENESS_DEADLINE, READINESS_DEADLINE, TELEMETRY_DEADLINE};
use serde_json::{Value, json};

/// Manifests that `kubectl apply --kustomize` applies, and the example of what it does not.
const MANIFESTS: [&str; 6] = [
    "serviceaccount.yaml",
    "deployment.yaml",
    "services.yaml",
    "disruption.yaml",
    "network.yaml",
    "secret.example.yaml",
];

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn documents(text: &str) -> Result<Vec<Value>, String> {
    serde_saphyr::from_multiple(text).map_err(|error| error.to_string())
}

fn manifest(name: &str) -> Vec<Value> {
    documents(&read(&format!("kubernetes/{name}"))).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn deployment() -> Value {
    manifest("deployment.yaml").remove(0)
}

/// What is wrong with a manifest; empty if nothing is.
fn problems(schema: &Value, text: &str) -> Vec<String> {
    let documents = match documents(text) {
        Ok(documents) => documents,
        Err(error) => return vec![error],
    };
    let check = |document: &Value| {
        let (version, kind) = (document["apiVersion"].as_str(), document["kind"].as_str());
        let Some(kind) = kind.filter(|_| version.is_some()) else {
            return vec!["no apiVersion or kind".to_owned()];
        };
        let definitions = schema["$defs"].as_object().expect("definitions");
        let suffix = format!(".{kind}");
        let name = definitions.keys().find(|name| name.ends_with(&suffix) && name.contains(".api."));
        let Some(name) = name else { return vec![format!("{kind} is not in the schema")] };
        let of_kind = json!({ "$ref": format!("#/$defs/{name}"), "$defs": schema["$defs"] });
        let validator = jsonschema::validator_for(&of_kind).expect("the schema is one");
        let describe = |error: jsonschema::ValidationError<'_>| format!("{}: {error}", error.instance_path());
        validator.iter_errors(document).map(describe).collect()
    };
    documents.iter().flat_map(check).collect()
}

fn kubernetes() -> Value {
    serde_json::from_str(&read("schema/kubernetes-1.30.json")).expect("JSON")
}

#[test]
fn every_manifest_holds_to_the_schema_of_kubernetes() {
    let schema = kubernetes();
    for name in MANIFESTS {
        assert_eq!(problems(&schema, &read(&format!("kubernetes/{name}"))), [""; 0], "{name}");
    }
    let kustomization = manifest("kustomization.yaml").remove(0);
    let resources: Vec<_> = kustomization["resources"].as_array().expect("a list").iter().collect();
    let applied: Vec<_> = MANIFESTS.iter().filter(|name| !name.contains("example")).collect();
    assert_eq!(json!(resources), json!(applied), "what is applied is what is checked");
}

#[test]
fn mistakes_in_manifests_are_refused() {
    let schema = kubernetes();
    for (name, right, wrong) in [
        ("deployment.yaml", "replicas: 3", "replica: 3"),
        ("deployment.yaml", "replicas: 3", "replicas: three"),
        ("deployment.yaml", "livenessProbe:", "livelinessProbe:"),
        ("deployment.yaml", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: \"true\""),
        ("deployment.yaml", "containerPort: 8080", "containerPort: clients"),
        ("deployment.yaml", "path: /livez", "path: 1"),
        ("deployment.yaml", "apiVersion: apps/v1", "apiVersion: apps/v2"),
        ("deployment.yaml", "whenUnsatisfiable: ScheduleAnyway", ""),
        ("deployment.yaml", "      containers:", "    containers:"),
        ("services.yaml", "targetPort: clients", "targetPorts: clients"),
        ("services.yaml", "port: 8080", ""),
        ("disruption.yaml", "maxUnavailable: 1", "maxUnavailable: [1]"),
        ("network.yaml", "policyTypes:", "policyType:"),
        ("secret.example.yaml", "stringData:", "stringdata:"),
    ] {
        let text = read(&format!("kubernetes/{name}"));
        assert!(text.contains(right), "{name} has no {right:?}");
        let planted = text.replacen(right, wrong, 1);
        assert_ne!(problems(&schema, &planted), [""; 0], "{name}: {wrong:?} in the place of {right:?}");
    }
}

const POD_IP: &str = "10.1.2.3";

/// A container's variables as the process sees them.
fn environment(container: &Value) -> Vec<(OsString, OsString)> {
    let secret = manifest("secret.example.yaml").remove(0);
    let config = path("kubernetes/bongsu.toml").into_os_string();
    let entries = container["env"].as_array().expect("a list").iter();
    let value_of = |entry: &Value| -> OsString {
        let from = &entry["valueFrom"];
        if let Some(key) = from["secretKeyRef"]["key"].as_str() {
            return secret["stringData"][key].as_str().expect("the example has it").into();
        }
        match (entry["value"].as_str(), from["fieldRef"]["fieldPath"].as_str()) {
            (Some("/etc/bongsu/bongsu.toml"), _) => config.clone(),
            (Some(value), _) => value.replace("$(POD_IP)", POD_IP).into(),
            (None, Some("metadata.name")) => "bongsu-7d4b9c-x2x".into(),
            (None, Some("status.podIP")) => POD_IP.into(),
            _ => panic!("{entry} has no value"),
        }
    };
    entries.map(|entry| (entry["name"].as_str().expect("a name").into(), value_of(entry))).collect()
}

fn load(environment: Vec<(OsString, OsString)>) -> Result<Loaded, String> {
    // `--config` reads BONGSU_CONFIG by itself; here, the environment is an argument.
    let config = environment.iter().find(|(name, _)| name == "BONGSU_CONFIG").map(|(_, file)| file.into());
    let args = SettingsArgs { config, ..SettingsArgs::default() };
    config::load_with(&args, environment).map_err(|errors| errors.to_string())
}

fn seconds(value: &Value) -> Duration {
    Duration::from_secs(value.as_u64().unwrap_or_else(|| panic!("{value} is no number of seconds")))
}

#[test]
fn a_pod_starts_with_the_settings_of_its_manifest_and_listens_where_that_says() {
    let deployment = deployment();
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let settings = load(environment(container)).expect("a node takes them").settings;
    assert_eq!(settings.node.name.as_str(), "bongsu-7d4b9c-x2x");
    assert!(settings.anonymous().subscribe.is_empty() && settings.anonymous().publish.is_empty());
    assert_eq!(settings.auth.tokens.0.len(), 1);
    let ports: BTreeMap<&str, u64> = container["ports"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|port| (port["name"].as_str().expect("a name"), port["containerPort"].as_u64().expect("a port")))
        .collect();
    let admin = settings.admin.listen.expect("probes need it");
    assert!(!settings.listen.ip().is_loopback() && !admin.ip().is_loopback(), "others reach them");
    let gate = settings.cluster.listen.expect("other nodes forward to it").port();
    let expected = [
        ("admin", u64::from(admin.port())),
        ("clients", u64::from(settings.listen.port())),
        ("nodes", u64::from(gate)),
    ];
    assert_eq!(ports, BTreeMap::from(expected));
    let advertised = settings.cluster.advertise.expect("they find it");
    assert_eq!(advertised.reveal(), format!("http://{POD_IP}:{gate}"));
    let network = &manifest("network.yaml")[0]["spec"];
    for way in ["ingress", "egress"] {
        let rules = network[way].as_array().expect("a list");
        let own =
            rules.iter().find(|rule| rule["ports"][0]["port"] == "nodes").expect("nodes reach each other");
        let peer = if way == "ingress" { &own["from"] } else { &own["to"] };
        let labels = &deployment["spec"]["template"]["metadata"]["labels"];
        assert_eq!(&peer[0]["podSelector"]["matchLabels"], labels, "and nobody else does");
    }
    // Without the Secret's tokens and without saying anything of strangers, no node would start.
    let open = environment(container).into_iter().filter(|(name, _)| name != "BONGSU_AUTH__TOKENS");
    let file = read("kubernetes/bongsu.toml").replace("subscribe = []\npublish = []\npresence = []", "");
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("bongsu.toml"), file).expect("it is written");
    let open = open.map(|(name, value)| {
        let value = if name == "BONGSU_CONFIG" { folder.path().join("bongsu.toml").into() } else { value };
        (name, value)
    });
    let refused = load(open.collect()).expect_err("anybody could do anything");
    assert!(refused.contains("everybody who reaches this address"), "{refused}");
}

#[test]
fn probes_and_times_of_a_pod_are_those_of_the_node() {
    let deployment = deployment();
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    for (probe, path, deadline) in [
        ("startupProbe", "/livez", LIVENESS_DEADLINE),
        ("livenessProbe", "/livez", LIVENESS_DEADLINE),
        ("readinessProbe", "/readyz", READINESS_DEADLINE),
    ] {
        let asked = &container[probe];
        assert_eq!(asked["httpGet"], json!({ "path": path, "port": "admin" }), "{probe}");
        assert!(seconds(&asked["timeoutSeconds"]) > deadline, "{probe} would not hear a late answer");
    }
    let settings = load(environment(container)).expect("a node takes them").settings;
    let pause = seconds(&container["lifecycle"]["preStop"]["sleep"]["seconds"]);
    let needed = pause + settings.drain.grace + TELEMETRY_DEADLINE;
    assert!(seconds(&pod["terminationGracePeriodSeconds"]) > needed, "it is killed before it is done");
    let replicas = deployment["spec"]["replicas"].as_u64().expect("a number");
    let disruption = manifest("disruption.yaml").remove(0);
    assert!(disruption["spec"]["maxUnavailable"].as_u64().is_some_and(|away| away < replicas));
}

#[test]
fn pods_run_without_privileges() {
    let deployment = deployment();
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0]["securityContext"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], json!(true));
    assert_eq!(container["readOnlyRootFilesystem"], json!(true));
    assert_eq!(container["allowPrivilegeEscalation"], json!(false));
    assert_eq!(container["capabilities"], json!({ "drop": ["ALL"] }));
    assert_eq!(pod["automountServiceAccountToken"], json!(false));
}

#[test]
fn everything_selects_the_pods_of_the_deployment() {
    let deployment = deployment();
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    let admin_and_clients = manifest("services.yaml");
    let selectors = [
        &deployment["spec"]["selector"]["matchLabels"],
        &admin_and_clients[0]["spec"]["selector"],
        &admin_and_clients[1]["spec"]["selector"],
        &manifest("disruption.yaml")[0]["spec"]["selector"]["matchLabels"],
        &manifest("network.yaml")[0]["spec"]["podSelector"]["matchLabels"],
    ];
    for selector in selectors {
        assert_eq!(selector, labels);
    }
    let ports = |service: &Value| service["spec"]["ports"][0]["targetPort"].clone();
    assert_eq!(admin_and_clients.iter().map(ports).collect::<Vec<_>>(), [json!("clients"), json!("admin")]);
    let secret = &manifest("secret.example.yaml")[0];
    assert_eq!(secret["metadata"]["name"], json!("bongsu"));
}

fn compose() -> Value {
    documents(&read("compose.yaml")).expect("YAML").remove(0)
}

#[test]
fn the_compose_file_holds_to_its_schema_and_mistakes_in_it_are_refused() {
    let schema: Value = serde_json::from_str(&read("schema/compose-spec.json")).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("the schema is one");
    let errors: Vec<String> = validator.iter_errors(&compose()).map(|error| error.to_string()).collect();
    assert_eq!(errors, [""; 0]);
    for (right, wrong) in [
        ("read_only: true", "readonly: true"),
        ("cap_drop: [ALL]", "cap_drop: ALL"),
        ("condition: service_healthy", "condition: healthy"),
        ("stop_grace_period: 45s", "stop_grace_period: 45"),
        ("dockerfile: deploy/Dockerfile", "dockerfiles: deploy/Dockerfile"),
    ] {
        let text = read("compose.yaml");
        assert!(text.contains(right), "no {right:?}");
        let planted = documents(&text.replacen(right, wrong, 1)).expect("YAML").remove(0);
        assert!(!validator.is_valid(&planted), "{wrong:?} in the place of {right:?}");
    }
}

/// The variables that a compose service gives its process, with the image's own beneath them.
fn compose_environment(service: &Value) -> Vec<(OsString, OsString)> {
    let mut all: BTreeMap<String, String> = image_environment();
    for (name, value) in service["environment"].as_object().expect("a map") {
        let value = value.as_str().expect("text").replace("${POSTGRES_PASSWORD:-bongsu}", "bongsu");
        all.insert(name.clone(), value);
    }
    all.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn image_environment() -> BTreeMap<String, String> {
    let text = read("Dockerfile");
    let pairs = text.lines().filter_map(|line| line.strip_prefix("ENV ")?.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn the_nodes_of_the_compose_file_start_and_the_proxy_knows_them_all() {
    let compose = compose();
    let services = compose["services"].as_object().expect("a map");
    let proxy = read("haproxy.cfg");
    let nodes: Vec<_> = services.iter().filter(|(name, _)| name.starts_with("node-")).collect();
    assert_eq!(nodes.len(), 3);
    for (name, service) in nodes {
        let settings: Settings = load(compose_environment(service)).expect("a node takes them").settings;
        assert_eq!(settings.node.name.as_str(), name);
        let admin = settings.admin.listen.expect("the proxy asks it").port();
        assert!(proxy.contains(&format!("check port {admin} ")), "the proxy asks another port than {admin}");
        let server = format!("server {name} {name}:{}\n", settings.listen.port());
        assert!(proxy.contains(&server), "the proxy has no {server}");
        let gate = settings.cluster.listen.expect("other nodes forward to it").port();
        let advertised = settings.cluster.advertise.expect("they find it");
        assert_eq!(advertised.reveal(), format!("http://{name}:{gate}"));
        assert!(service["ports"].is_null(), "nobody else reaches it");
        let grace = service["stop_grace_period"].as_str().and_then(|grace| grace.strip_suffix('s'));
        let grace = Duration::from_secs(grace.and_then(|grace| grace.parse().ok()).expect("seconds"));
        assert!(grace > settings.drain.grace + TELEMETRY_DEADLINE);
    }
}

#[test]
fn the_image_builds_with_the_projects_toolchain_and_runs_as_nobody() {
    let text = read("Dockerfile");
    let toolchain = std::fs::read_to_string(path("../rust-toolchain.toml")).expect("it is there");
    let channel = toolchain.lines().find_map(|line| line.strip_prefix("channel = ")).expect("a channel");
    assert!(text.contains(&format!("FROM rust:{}-", channel.trim_matches('"'))), "not {channel}");
    let last = text.rsplit_once("\nFROM ").expect("a stage that is run").1;
    assert!(last.contains("\nUSER 65532:65532\n"));
    assert!(last.contains("CMD [\"/usr/local/bin/bongsu\", \"health\"]"));
    // What the image says of itself is no reason to start: somebody must say who may do what.
    let image = || image_environment().into_iter().map(|(name, value)| (name.into(), value.into()));
    let refused = load(image().collect()).expect_err("anybody could do anything");
    assert!(refused.contains("everybody who reaches this address"), "{refused}");
    let open = [("BONGSU_AUTH__ANONYMOUS__SUBSCRIBE".into(), "#".into())];
    load(image().chain(open).collect()).expect("somebody did");
}

#[test]
fn the_image_is_built_from_every_member_of_the_workspace() {
    let workspace = std::fs::read_to_string(path("../Cargo.toml")).expect("it is there");
    let members = workspace.lines().find_map(|line| line.strip_prefix("members = ")).expect("members");
    let members: Vec<String> = serde_json::from_str(members).expect("a list");
    let ignored = read("Dockerfile.dockerignore");
    for member in members {
        assert!(ignored.lines().any(|line| line == format!("!{member}")), "{member} is left out");
    }
}
