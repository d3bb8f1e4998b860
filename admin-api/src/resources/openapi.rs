//! The OpenAPI document, made from the routes.

use axum::response::{IntoResponse as _, Response};
use http::header;
use serde_json::json;
use utoipa::ToSchema as _;
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::path::{HttpMethod, Operation};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContactBuilder, Content, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, Paths,
    Ref, RefOr, Response as Documented, ResponseBuilder, Schema,
};

use super::{Shared, table};
use crate::problem;
use crate::query::{self, Query};
use crate::role::Role;
use crate::route::{Access, Route};
use crate::schema;

/// What any request may be answered with in the place of what it asked for: name, status, whom it concerns, and what it means.
const PROBLEMS: &[(&str, u16, Concerns, &str)] = &[
    ("BadRequest", 400, Concerns::All, "The request cannot be understood."),
    ("Unauthenticated", 401, Concerns::All, "Nobody knows who asks."),
    ("Forbidden", 403, Concerns::All, "Whoever asks may not."),
    ("NotFound", 404, Concerns::Named, "There is no such thing."),
    ("Conflict", 409, Concerns::Changes, "What there is stands against it."),
    (
        "Changed",
        412,
        Concerns::Changes,
        "It is not what the condition says, or changed meanwhile: look again.",
    ),
    ("Timeout", 408, Concerns::Bodies, "The body did not come in time."),
    ("TooLarge", 413, Concerns::Bodies, "The body is too large."),
    ("MediaType", 415, Concerns::Bodies, "The body is of another type than this takes."),
    ("Invalid", 422, Concerns::All, "The request was understood and makes no sense: `errors` says where."),
    ("ConditionRequired", 428, Concerns::Conditions, "The change needs a condition."),
    ("TooMany", 429, Concerns::Changes, "Too often. Repeat after the time that `Retry-After` says."),
    ("Internal", 500, Concerns::All, "The broker's own fault."),
    ("Unavailable", 503, Concerns::All, "Something that is needed does not answer now. Repeat later."),
];

/// Which operations a problem may come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Concerns {
    All,
    /// Those of a thing with a name.
    Named,
    /// Those with a body.
    Bodies,
    /// Those that change something.
    Changes,
    /// Those that take `If-Match`.
    Conditions,
}

pub(crate) fn routes() -> Vec<Route<Shared>> {
    vec![Route::read(Role::Viewer, __path_openapi, openapi)]
}

/// This document
#[utoipa::path(get, path = "/v1/openapi.json", operation_id = "openapi", tag = "access", params(query::None),
    responses((status = 200, description = "OpenAPI 3.1.", body = Object, content_type = "application/json")))]
async fn openapi(_: Query<query::None>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], to_json()).into_response()
}

/// The document as it stands in `docs/openapi.json`.
#[must_use]
pub fn to_json() -> String {
    let mut json = document().to_pretty_json().expect("texts, numbers and lists are JSON");
    json.push('\n');
    json
}

/// The document of all routes.
#[must_use]
pub fn document() -> OpenApi {
    let mut components = ComponentsBuilder::new();
    let mut paths = Paths::new();
    for route in table() {
        let (path, method) = (route.path.clone(), route.method.clone());
        paths.add_path_operation(path, vec![method], complete(route));
    }
    for (name, schema) in schemas() {
        components = components.schema(name, schema);
    }
    for (name, _, _, meaning) in PROBLEMS {
        components = components.response(*name, problem_response(meaning));
    }
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A token or key of an administrator. Needed wherever the node knows one."))
        .build();
    let components = components.security_scheme("bearer", SecurityScheme::Http(bearer)).build();
    let description = "What operators see of a Bongsu cluster and do to it. Every operation says in `x-role` the role that it needs; every change is \
                       in the audit log before it is made. Problems are `application/problem+json` with a stable `code`.";
    let info = InfoBuilder::new()
        .title("Bongsu admin API")
        .version("1")
        .description(Some(description))
        .contact(Some(ContactBuilder::new().url(Some(env!("CARGO_PKG_REPOSITORY"))).build()))
        .license(Some(LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build()))
        .build();
    OpenApiBuilder::new()
        .info(info)
        .paths(paths)
        .components(Some(components))
        // Without a credential, a node that knows none answers on loopback.
        .security(Some([SecurityRequirement::new("bearer", [] as [&str; 0]), SecurityRequirement::default()]))
        .build()
}

/// Every schema by its name, as often as something asks for it.
fn schemas() -> Vec<(String, RefOr<Schema>)> {
    let mut schemas = schema::shared();
    schemas.push((
        problem::Document::name().into_owned(),
        <problem::Document<'_> as utoipa::PartialSchema>::schema(),
    ));
    problem::Document::schemas(&mut schemas);
    schemas.extend(table().into_iter().flat_map(|route| route.schemas));
    schemas
}

/// An operation with its role, and with the problems that every request may meet.
fn complete(route: Route<Shared>) -> Operation {
    let Route { role, access, method, path, mut operation, .. } = route;
    operation.extensions = Some(ExtensionsBuilder::new().add("x-role", json!(role)).build());
    let has_body = operation.request_body.is_some() || matches!(method, HttpMethod::Patch);
    let takes_condition = operation
        .parameters
        .iter()
        .flatten()
        .any(|parameter| parameter.name.eq_ignore_ascii_case("if-match"));
    for (name, status, concerns, _) in PROBLEMS {
        let is_concerned = match concerns {
            Concerns::All => true,
            Concerns::Named => path.contains('{'),
            Concerns::Bodies => has_body,
            Concerns::Changes => access == Access::Change,
            Concerns::Conditions => takes_condition,
        };
        if is_concerned {
            let reference = RefOr::Ref(Ref::from_response_name(*name));
            operation.responses.responses.entry(status.to_string()).or_insert(reference);
        }
    }
    operation
}

fn problem_response(meaning: &str) -> Documented {
    let content = Content::new(Some(Ref::from_schema_name("Problem")));
    ResponseBuilder::new().description(meaning).content("application/problem+json", content).build()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn no_two_types_share_a_name() {
        let mut seen = BTreeMap::new();
        for (name, schema) in schemas() {
            let schema = json!(schema);
            let first = seen.entry(name.clone()).or_insert_with(|| schema.clone());
            assert_eq!(*first, schema, "two types are called {name}: give one of them #[schema(as = …)]");
        }
    }

    #[test]
    fn every_reference_leads_to_something() {
        let document = json!(document());
        let mut missing = BTreeSet::new();
        let mut rest = vec![&document];
        while let Some(value) = rest.pop() {
            let path = value.get("$ref").and_then(serde_json::Value::as_str);
            if let Some(path) = path.and_then(|path| path.strip_prefix('#'))
                && document.pointer(path).is_none()
            {
                missing.insert(path.to_owned());
            }
            match value {
                serde_json::Value::Object(members) => rest.extend(members.values()),
                serde_json::Value::Array(items) => rest.extend(items),
                _ => {}
            }
        }
        assert_eq!(missing, BTreeSet::new());
    }
}
