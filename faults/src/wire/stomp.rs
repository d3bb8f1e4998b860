//! STOMP 1.2 as its specification has it, over WebSocket, SockJS and bare TCP.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::socket::Socket;
use super::{WELCOME_TIMEOUT, sockjs};
use crate::transport::Transport;

/// What the client asks the server for.
const BEAT: Duration = Duration::from_secs(2);

/// A connection on which nothing came for this long is dead.
const SILENCE_MAX: Duration = Duration::from_secs(6);

/// A connection that was let in.
pub(crate) struct Stomp {
    carrier: Carrier,
    /// What came of a frame that has no end yet.
    partial: Vec<u8>,
}

enum Carrier {
    Socket(Box<Socket>),
    SockJs(Box<Socket>),
    Tcp(TcpStream),
}

/// A frame, with its headers unescaped.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) command: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Frame {
    /// The value of the first header of this name: the later ones mean nothing.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A header that is a number.
    ///
    /// # Errors
    /// It is not there, or no number.
    pub(crate) fn number(&self, name: &str) -> anyhow::Result<u64> {
        let value = self.header(name).with_context(|| format!("no {name} in {self:?}"))?;
        value.parse().with_context(|| format!("{name}: {value:?}"))
    }
}

impl Stomp {
    /// Connects and waits for CONNECTED.
    ///
    /// # Errors
    /// Nobody is there, or did not answer in time: try another node.
    pub(crate) async fn open(transport: Transport, address: SocketAddr) -> anyhow::Result<Self> {
        let opened = async {
            let carrier = match transport {
                Transport::StompWebSocket => {
                    Carrier::Socket(Box::new(Socket::open(address, "/stomp", Some("v12.stomp")).await?))
                }
                Transport::StompSockJs => {
                    let path = format!("{}/websocket", sockjs::session_path("/stomp"));
                    Carrier::SockJs(Box::new(Socket::open(address, &path, None).await?))
                }
                Transport::StompTcp => {
                    let stream = TcpStream::connect(address).await?;
                    stream.set_nodelay(true)?;
                    Carrier::Tcp(stream)
                }
                other => bail!("{other} does not carry STOMP"),
            };
            let mut stomp = Self { carrier, partial: Vec::new() };
            let beats = format!("0,{}", BEAT.as_millis());
            let headers = [("accept-version", "1.2"), ("host", "localhost"), ("heart-beat", &beats)];
            stomp.send("CONNECT", &headers, b"").await?;
            let first = stomp.frame().await?;
            ensure!(first.command == "CONNECTED", "{first:?}");
            Ok(stomp)
        };
        timeout(WELCOME_TIMEOUT, opened).await.context("not connected in time")?
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// The connection is lost.
    pub(crate) async fn send(
        &mut self,
        command: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> anyhow::Result<()> {
        let mut text = format!("{command}\n");
        for (name, value) in headers {
            // Those of CONNECT are not escaped, and here they have nothing to escape.
            text.push_str(&format!("{}:{}\n", escape(name), escape(value)));
        }
        if !body.is_empty() {
            text.push_str(&format!("content-length:{}\n", body.len()));
        }
        text.push_str(&format!("\n{}\0", std::str::from_utf8(body)?));
        let sent = async {
            match &mut self.carrier {
                Carrier::Socket(socket) => socket.send(Message::text(text)).await,
                Carrier::SockJs(socket) => socket.send(Message::text(sockjs::messages(&text))).await,
                Carrier::Tcp(stream) => Ok(stream.write_all(text.as_bytes()).await?),
            }
        };
        timeout(SILENCE_MAX, sent).await.context("the node takes nothing")?
    }

    /// The next frame.
    ///
    /// # Errors
    /// The connection is over, or was silent for longer than the broker promised to be, or the frame is an ERROR.
    pub(crate) async fn frame(&mut self) -> anyhow::Result<Frame> {
        loop {
            // Ends of lines between frames are heart-beats.
            let n_blanks = self.partial.iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
            self.partial.drain(..n_blanks);
            if let Some((frame, n_bytes)) = decode(&self.partial)? {
                self.partial.drain(..n_bytes);
                ensure!(
                    frame.command != "ERROR",
                    "{:?}: {}",
                    frame.headers,
                    String::from_utf8_lossy(&frame.body)
                );
                return Ok(frame);
            }
            timeout(SILENCE_MAX, self.fill()).await.context("no heart-beat")??;
        }
    }

    async fn fill(&mut self) -> anyhow::Result<()> {
        match &mut self.carrier {
            // A frame may come in several messages, and several in one.
            Carrier::Socket(socket) => {
                let message = socket.receive().await?;
                self.partial.extend_from_slice(&message.map(Message::into_data).unwrap_or_default());
            }
            Carrier::SockJs(socket) => {
                if let Some(frame) = socket.receive().await? {
                    self.partial.extend(sockjs::messages_of(frame.to_text()?)?.concat().into_bytes());
                }
            }
            Carrier::Tcp(stream) => {
                ensure!(stream.read_buf(&mut self.partial).await? > 0, "the connection ended");
            }
        }
        Ok(())
    }
}

/// The first frame and how many bytes it has; `None`: it is not all there.
fn decode(bytes: &[u8]) -> anyhow::Result<Option<(Frame, usize)>> {
    let mut place = 0;
    let mut lines = Vec::new();
    loop {
        let Some(end) = bytes[place..].iter().position(|byte| *byte == b'\n') else { return Ok(None) };
        let line = std::str::from_utf8(&bytes[place..place + end])?;
        place += end + 1;
        match line.strip_suffix('\r').unwrap_or(line) {
            "" => break,
            line => lines.push(line),
        }
    }
    let (command, headers) = lines.split_first().context("a frame begins with its command")?;
    let headers = headers.iter().map(|line| {
        let (name, value) = line.split_once(':').with_context(|| format!("no header: {line:?}"))?;
        Ok((unescape(name)?, unescape(value)?))
    });
    let headers = headers.collect::<anyhow::Result<_>>()?;
    let mut frame = Frame { command: (*command).to_owned(), headers, body: Vec::new() };
    let n_body = match frame.header("content-length") {
        Some(length) => Some(length.parse::<usize>()?).filter(|length| bytes.len() > place + length),
        None => bytes[place..].iter().position(|byte| *byte == 0),
    };
    let Some(n_body) = n_body else { return Ok(None) };
    ensure!(bytes[place + n_body] == 0, "a frame ends with a NUL");
    frame.body = bytes[place..place + n_body].to_vec();
    Ok(Some((frame, place + n_body + 1)))
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\r', "\\r").replace('\n', "\\n").replace(':', "\\c")
}

fn unescape(text: &str) -> anyhow::Result<String> {
    let mut unescaped = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        unescaped.push(match character {
            '\\' => match characters.next() {
                Some('\\') => '\\',
                Some('r') => '\r',
                Some('n') => '\n',
                Some('c') => ':',
                other => bail!("no escape: {other:?}"),
            },
            other => other,
        });
    }
    Ok(unescaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_they_come() {
        let bytes = b"MESSAGE\r\noffset:7\nname:a\\cb\nname:c\ncontent-length:3\n\n1\x002\0\nRECEIPT\nreceipt-id:1\n\n\0";
        for cut in 0..50 {
            assert_eq!(decode(&bytes[..cut]).unwrap(), None, "{cut}");
        }
        let (frame, n_bytes) = decode(bytes).unwrap().unwrap();
        assert_eq!((frame.command.as_str(), frame.body.as_slice()), ("MESSAGE", b"1\x002".as_slice()));
        assert_eq!((frame.number("offset").unwrap(), frame.header("name")), (7, Some("a:b")));
        let (frame, _) = decode(&bytes[n_bytes + 1..]).unwrap().unwrap();
        assert_eq!(frame.header("receipt-id"), Some("1"));
    }
}
