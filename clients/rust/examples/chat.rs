//! Two windows of this chat with each other: `cargo run --example chat -- room/1`, then type.

use bongsu_client::{Client, Item, Start};
use tokio::io::{AsyncBufReadExt, BufReader, stdin};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let topic = std::env::args().nth(1).unwrap_or_else(|| "chat/1".to_owned());
    let client = Client::connect("ws://127.0.0.1:8080/v1/ws").await?;
    let mut chat = client.subscribe(&topic).from(Start::Last(10)).await?;
    let mut lines = BufReader::new(stdin()).lines();
    loop {
        tokio::select! {
            Some(item) = chat.next() => match item {
                Item::Message(it) => println!("> {}", String::from_utf8_lossy(&it.message.payload)),
                other => println!("{other:?}"),
            },
            Ok(Some(line)) = lines.next_line() => drop(client.publish(&topic, line).await?),
            else => return Ok(()),
        }
    }
}
