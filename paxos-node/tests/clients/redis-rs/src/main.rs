//! redis-rs: commands, expiry, pipelines, transactions, messages and scripts, over RESP2 and RESP3.

use std::thread::sleep;
use std::time::Duration;

use redis::{Client, Commands, ExistenceCheck, RedisResult, Script, SetExpiry, SetOptions, transaction};

fn main() -> RedisResult<()> {
    let addresses = std::env::var("PAXOS_ADDRESSES").expect("it names the nodes");
    let nodes: Vec<&str> = addresses.split(',').collect();
    for protocol in ["resp2", "resp3"] {
        let client = |node: usize| Client::open(format!("redis://{}/?protocol={protocol}", nodes[node]));
        let (mut one, mut two) = (client(0)?.get_connection()?, client(1)?.get_connection()?);
        redis::cmd("FLUSHALL").exec(&mut one)?;
        let () = one.set("a", 1)?;
        assert_eq!(two.incr::<_, _, i64>("a", 4)?, 5);
        assert_eq!(two.mget::<_, Vec<Option<i64>>>(&["a", "none"])?, [Some(5), None]);
        let lock = SetOptions::default()
            .conditional_set(ExistenceCheck::NX)
            .with_expiration(SetExpiry::PX(200));
        assert!(one.set_options::<_, _, Option<String>>("lock", "mine", lock.clone())?.is_some());
        assert!(two.set_options::<_, _, Option<String>>("lock", "theirs", lock)?.is_none());
        assert!((1..=200).contains(&two.pttl::<_, i64>("lock")?));
        let release = Script::new(
            "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end",
        );
        assert_eq!(release.key("lock").arg("theirs").invoke::<i64>(&mut two)?, 0);
        sleep(Duration::from_millis(300));
        assert_eq!(release.key("lock").arg("mine").invoke::<i64>(&mut two)?, 0, "it has expired");
        let (first, second): (i64, i64) = redis::pipe().atomic().incr("n", 1).incr("n", 1).query(&mut one)?;
        assert_eq!((first, second), (1, 2));
        // Somebody else changes the key once while it is watched.
        let mut attempts = 0;
        let (sum,): (i64,) = transaction(&mut one, &["n"], |connection, pipeline| {
            let value: i64 = connection.get("n")?;
            attempts += 1;
            if attempts == 1 {
                let () = two.set("n", 10)?;
            }
            pipeline.incr("n", value).query(connection)
        })?;
        assert_eq!((sum, attempts), (20, 2));
        let mut keys: Vec<String> = one.scan()?.collect::<RedisResult<_>>()?;
        keys.sort();
        assert_eq!(keys, ["a", "n"]);
        let mut listening = client(1)?.get_connection()?;
        let mut messages = listening.as_pubsub();
        messages.subscribe("news")?;
        let _: i64 = one.publish("news", "hello")?;
        assert_eq!(messages.get_message()?.get_payload::<String>()?, "hello");
    }
    println!("redis-rs 1.8.1, RESP2 and RESP3");
    Ok(())
}
