//! Commands beside the bus.

use bongsu::bus::Error;
use bongsu::bus::redis::Script;
use redis::Value;

use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_and_scripts_reach_the_server_of_their_key() {
    for world in
        [World::standalone(), World::sharded(), World::sentinel(), World::cluster(), World::tls_and_acl()]
    {
        let node = world.join().await;
        let commands = node.commands.as_ref().unwrap();
        let script = Script::new("redis.call('set', KEYS[1], ARGV[1]) return redis.call('get', KEYS[2])");
        for n in 0..20 {
            let key = format!("{}k:{{{n}}}", commands.prefix());
            let other = format!("{key}:other");
            let expires = redis::cmd("SET").arg(&other).arg("there").arg("PX").arg(60_000).take();
            assert_eq!(commands.query(&other, &expires).await.unwrap(), Value::Okay);
            let there = commands.script(&script, &[&key, &other], &[b"value"]).await;
            assert_eq!(there.unwrap(), Value::BulkString(b"there".to_vec()));
            let mut two = redis::pipe();
            two.cmd("GET").arg(&key).cmd("DEL").arg(&key);
            let answers = commands.pipeline(&key, &two).await.unwrap();
            assert_eq!(answers, [Value::BulkString(b"value".to_vec()), Value::Int(1)]);
        }
    }
}

#[tokio::test]
async fn an_error_of_the_server_is_told() {
    let node = World::standalone().join().await;
    let commands = node.commands.as_ref().unwrap();
    let result = commands.query("k", &redis::cmd("NOSUCHCOMMAND")).await;
    assert!(
        matches!(&result, Err(Error::Unavailable(reason)) if reason.contains("unknown command")),
        "{result:?}"
    );
    let mut two = redis::pipe();
    two.cmd("PING").cmd("NOSUCHCOMMAND");
    assert!(commands.pipeline("k", &two).await.is_err());
}
