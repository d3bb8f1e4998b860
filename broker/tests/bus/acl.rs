//! The permissions that `docs/redis.md` says a node needs: they are enough, and that document is where they stand.

use bongsu_testkit::Redis;

/// The password of the user `bongsu`.
pub(crate) const PASSWORD: &str = "p%40ss:w/rd";

/// Makes the user with the permissions of the document. `cluster` stands in the place of the cluster's name.
pub(crate) fn set_user(server: &Redis, cluster: &str) {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/redis.md")).unwrap();
    let line = text.lines().find(|line| line.starts_with("ACL SETUSER bongsu ")).unwrap();
    let line = line.replace("PASSWORD", "p@ss:w/rd").replace("~bongsu:", &format!("~{cluster}:"));
    let line = line.replace("&bongsu:", &format!("&{cluster}:"));
    server.cli(&line.split(' ').collect::<Vec<_>>());
}
