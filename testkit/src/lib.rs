//! Real servers for tests: Redis (alone, behind Sentinel, as a Cluster) and Postgres (alone or with a standby).
//!
//! Each server runs on free ports of the loopback interface and in a directory of its own, and both end with the test's process,
//! also where that is killed and where the handle is in a `static`. Every method waits until what it did has happened, and
//! panics with the server's own log where it does not: these are tests' tools, and a test has no better answer.
//!
//! Not here: anything that speaks to the servers as the broker does. Tests bring the crates that they test.
//!
//! ```no_run
//! let redis = bongsu_testkit::Redis::start();
//! let database = bongsu_testkit::Postgres::shared().database();
//! println!("{} {database}", redis.url());
//! redis.pause(); // and whoever uses it must cope
//! ```

mod ports;
mod postgres;
mod process;
mod redis;

pub use postgres::Postgres;
pub use process::Process;
pub use redis::cluster::RedisCluster;
pub use redis::sentinel::RedisSentinel;
pub use redis::{Redis, Tls};

use std::time::{Duration, Instant};

/// How long a server may take for whatever it was asked to do: a busy machine with slow disks, never a working day.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks every 20 ms until there is an answer; `what` says what was waited for.
///
/// # Panics
/// Where there is none within a minute.
fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
