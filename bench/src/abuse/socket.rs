//! A blocking client of the JSON protocol, for one conversation at a time.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use anyhow::{bail, ensure};

use crate::load::PATIENCE;

/// A WebSocket after its handshake.
pub(super) struct Socket {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Socket {
    pub(super) fn web_socket(address: SocketAddr) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let request = "GET /v1/ws HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                       sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.write_all(request.as_bytes())?;
        let mut socket = Self { stream, read: Vec::new() };
        loop {
            socket.read_some()?;
            if let Some(end) = socket.read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head: Vec<u8> = socket.read.drain(..end + 4).collect();
                ensure!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
                return Ok(socket);
            }
        }
    }

    /// Sends a text, masked by zeros.
    pub(super) fn send(&mut self, text: &str) -> io::Result<()> {
        let mut frame = vec![0x81];
        match u16::try_from(text.len()) {
            Ok(length) if length < 126 => frame.push(0x80 | u8::try_from(length).unwrap_or(0)),
            Ok(length) => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&length.to_be_bytes());
            }
            Err(_) => {
                frame.push(0x80 | 127);
                frame.extend_from_slice(&(text.len() as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(text.as_bytes());
        self.stream.write_all(&frame)
    }

    /// Sends bytes that are no frame.
    pub(super) fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next text.
    pub(super) fn receive(&mut self) -> anyhow::Result<String> {
        loop {
            if let Some(text) = self.take_frame()? {
                return Ok(text);
            }
            self.read_some()?;
        }
    }

    /// Throws away what has come, without waiting for more.
    pub(super) fn drain(&mut self) -> anyhow::Result<()> {
        self.stream.set_nonblocking(true)?;
        let mut bytes = [0; 4096];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => bail!("the connection ended"),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        self.stream.set_nonblocking(false)?;
        Ok(())
    }

    fn read_some(&mut self) -> anyhow::Result<()> {
        let mut bytes = [0; 16 << 10];
        let n_bytes = self.stream.read(&mut bytes)?;
        ensure!(n_bytes > 0, "the connection ended");
        self.read.extend_from_slice(&bytes[..n_bytes]);
        Ok(())
    }

    /// A frame's text, if one is whole. Servers do not mask.
    fn take_frame(&mut self) -> anyhow::Result<Option<String>> {
        let [kind, length, ..] = self.read[..] else { return Ok(None) };
        let (n_header, n_bytes) = match (length, self.read.get(2..4), self.read.get(2..10)) {
            (126, Some(&[high, low]), _) => (4, usize::from(u16::from_be_bytes([high, low]))),
            (127, _, Some(length)) => {
                (10, usize::try_from(u64::from_be_bytes(*length.first_chunk().unwrap_or(&[0; 8])))?)
            }
            (126 | 127, ..) => return Ok(None),
            (length, ..) => (2, usize::from(length)),
        };
        if self.read.len() < n_header + n_bytes {
            return Ok(None);
        }
        ensure!(kind & 0x0f != 8, "the broker closed");
        let frame: Vec<u8> = self.read.drain(..n_header + n_bytes).collect();
        Ok(Some(String::from_utf8_lossy(&frame[n_header..]).into_owned()))
    }
}
