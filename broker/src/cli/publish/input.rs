//! What `bongsu pub` reads: lines and files, as messages in batches.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, stdin};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bongsu_client::{Bytes, Message, NewMessage, Offset, Topic};
use bongsu_protocol::limits::{FRAME_BYTES_MAX, PAYLOAD_BYTES_MAX};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::PubArgs;

/// Payload bytes after which a batch goes out.
const BATCH_BYTES: usize = 128 << 10;

/// Messages, and where each came from, for people.
pub(super) struct Batch {
    pub(super) messages: Vec<NewMessage>,
    pub(super) sources: VecDeque<String>,
}

/// What is to be read, and how.
pub(super) struct Input {
    topic: Option<Topic>,
    text: Option<String>,
    files: Vec<PathBuf>,
    lines: bool,
    kind: Kind,
    headers: Vec<(String, String)>,
    id_prefix: Option<String>,
    batch_max: usize,
    /// Messages so far.
    n_messages: u64,
}

enum Kind {
    /// UTF-8, with this content type.
    Text(String),
    /// Any bytes, with this content type.
    Raw(String),
    Json(String),
    Envelope,
}

/// The object of `--envelope`. What `bongsu sub --json` prints besides is taken and left aside.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    topic: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    text: Option<String>,
    bytes: Option<String>,
    r#type: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    id: String,
    expect: Option<u64>,
    #[serde(rename = "epoch")]
    _epoch: Option<u64>,
    #[serde(rename = "offset")]
    _offset: Option<u64>,
    #[serde(rename = "time")]
    _time: Option<u64>,
    #[serde(rename = "publisher")]
    _publisher: Option<String>,
    #[serde(rename = "erased")]
    _erased: Option<bool>,
}

impl Input {
    /// Takes what the arguments say of the input.
    pub(super) fn new(args: &mut PubArgs) -> anyhow::Result<Self> {
        let content_type = args.content_type.take();
        let kind = match args {
            PubArgs { envelope: true, .. } => Kind::Envelope,
            PubArgs { json: true, .. } => {
                Kind::Json(content_type.unwrap_or_else(|| "application/json".to_owned()))
            }
            PubArgs { raw: true, .. } => Kind::Raw(content_type.unwrap_or_default()),
            // With a type of their own, files are what that says.
            _ => match content_type {
                Some(content_type) => Kind::Raw(content_type),
                None => Kind::Text("text/plain; charset=utf-8".to_owned()),
            },
        };
        // Opened now, so that a wrong name is told before anything is published.
        for file in args.file.iter().filter(|file| file.as_os_str() != "-") {
            File::open(file).with_context(|| file.display().to_string())?;
        }
        Ok(Self {
            topic: args.topic.take(),
            text: args.text.take(),
            files: std::mem::take(&mut args.file),
            lines: args.lines || args.envelope,
            kind,
            headers: std::mem::take(&mut args.headers),
            id_prefix: args.id_prefix.take(),
            batch_max: args.batch.into(),
            n_messages: 0,
        })
    }

    /// Reads everything and sends it on; blocks. An error is the last thing sent.
    pub(super) fn read(mut self, batches: &mpsc::Sender<anyhow::Result<Batch>>) {
        if let Err(error) = self.try_read(batches) {
            // Nobody listens only if the command ended before its input.
            let _ = batches.blocking_send(Err(error));
        }
    }

    fn try_read(&mut self, batches: &mpsc::Sender<anyhow::Result<Batch>>) -> anyhow::Result<()> {
        let mut batcher = Batcher::new(batches, self.batch_max);
        if let Some(text) = self.text.take() {
            let message = self.message(text.into())?;
            batcher.push(message, "the message".to_owned());
            batcher.send();
            return Ok(());
        }
        let files = std::mem::take(&mut self.files);
        if files.is_empty() {
            return self.read_lines(stdin().lock(), "", &mut batcher);
        }
        for file in files {
            let name = file.display().to_string();
            let result = match (file == Path::new("-"), self.lines) {
                (true, true) => self.read_lines(stdin().lock(), "", &mut batcher),
                (true, false) => self.read_whole(stdin().lock(), "standard input", &mut batcher),
                (false, true) => {
                    let opened = File::open(&file).context(name.clone())?;
                    self.read_lines(opened, &format!("{name} "), &mut batcher)
                }
                (false, false) => {
                    self.read_whole(File::open(&file).context(name.clone())?, &name, &mut batcher)
                }
            };
            if batcher.is_closed() {
                return Ok(());
            }
            if let Err(error) = result {
                // What came before is published.
                batcher.send();
                return Err(error);
            }
        }
        batcher.send();
        Ok(())
    }

    fn read_whole(&mut self, source: impl Read, name: &str, batcher: &mut Batcher<'_>) -> anyhow::Result<()> {
        let mut payload = Vec::new();
        source.take(PAYLOAD_BYTES_MAX as u64 + 1).read_to_end(&mut payload).context(name.to_owned())?;
        let message = self.message(payload.into()).context(name.to_owned())?;
        batcher.push(message, name.to_owned());
        Ok(())
    }

    fn read_lines(&mut self, source: impl Read, name: &str, batcher: &mut Batcher<'_>) -> anyhow::Result<()> {
        let mut source = BufReader::with_capacity(1 << 16, source);
        let mut n_lines = 0_u64;
        loop {
            // An envelope with base64 in it is larger than its payload.
            let length_max =
                if matches!(self.kind, Kind::Envelope) { FRAME_BYTES_MAX } else { PAYLOAD_BYTES_MAX };
            let mut line = Vec::new();
            (&mut source)
                .take(length_max as u64 + 2)
                .read_until(b'\n', &mut line)
                .with_context(|| format!("{name}line {}", n_lines + 1))?;
            if line.is_empty() {
                batcher.send();
                return Ok(());
            }
            n_lines += 1;
            line.pop_if(|last| *last == b'\n');
            match self.message(line.into()) {
                Ok(message) => batcher.push(message, format!("{name}line {n_lines}")),
                Err(error) => {
                    // What came before is published.
                    batcher.send();
                    return Err(error.context(format!("{name}line {n_lines}")));
                }
            }
            // More may be long in coming: what is there goes out.
            if source.buffer().is_empty() {
                batcher.send();
            }
            if batcher.is_closed() {
                return Ok(());
            }
        }
    }

    fn message(&mut self, line: Bytes) -> anyhow::Result<NewMessage> {
        self.n_messages += 1;
        let mut new = match &self.kind {
            Kind::Envelope => self.unwrap(&line)?,
            Kind::Text(content_type) => {
                if std::str::from_utf8(&line).is_err() {
                    bail!("it is not UTF-8: use --raw or --type for other bytes");
                }
                self.plain(line, content_type)?
            }
            Kind::Raw(content_type) => self.plain(line, content_type)?,
            Kind::Json(content_type) => {
                serde_json::from_slice::<&RawValue>(&line).context("it is not JSON")?;
                self.plain(line, content_type)?
            }
        };
        if let Some(prefix) = &self.id_prefix {
            new.message.id = format!("{prefix}-{}", self.n_messages);
        }
        new.message.validate()?;
        Ok(new)
    }

    fn plain(&self, payload: Bytes, content_type: &str) -> anyhow::Result<NewMessage> {
        let topic = self.topic.clone().context("no topic was given")?;
        let content_type = content_type.to_owned();
        let message = Message { payload, content_type, headers: self.headers.clone(), id: String::new() };
        Ok(NewMessage { topic, message, expect: None })
    }

    fn unwrap(&self, line: &[u8]) -> anyhow::Result<NewMessage> {
        let envelope: Envelope<'_> = serde_json::from_slice(line)?;
        let topic = match envelope.topic {
            Some(topic) => Topic::parse(&topic).with_context(|| format!("topic {topic:?}"))?,
            None => self.topic.clone().context("it names no topic, and none was given")?,
        };
        let (payload, content_type) = match (envelope.data, envelope.text, envelope.bytes) {
            (Some(data), None, None) => (Bytes::copy_from_slice(data.get().as_bytes()), "application/json"),
            (None, Some(text), None) => (Bytes::from(text), "text/plain; charset=utf-8"),
            (None, None, Some(bytes)) => {
                (STANDARD.decode(&bytes).context("`bytes` is not base64")?.into(), "")
            }
            (None, None, None) => (Bytes::new(), ""),
            _ => bail!("it has more than one of data, text and bytes"),
        };
        let content_type = envelope.r#type.unwrap_or_else(|| content_type.to_owned());
        let headers = envelope.headers.into_iter().collect();
        let message = Message { payload, content_type, headers, id: envelope.id };
        Ok(NewMessage { topic, message, expect: envelope.expect.map(Offset) })
    }
}

/// Gathers messages until a batch is full, or its sender has no more for now.
struct Batcher<'a> {
    batches: &'a mpsc::Sender<anyhow::Result<Batch>>,
    batch_max: usize,
    batch: Batch,
    n_bytes: usize,
}

impl<'a> Batcher<'a> {
    const fn new(batches: &'a mpsc::Sender<anyhow::Result<Batch>>, batch_max: usize) -> Self {
        let batch = Batch { messages: Vec::new(), sources: VecDeque::new() };
        Self { batches, batch_max, batch, n_bytes: 0 }
    }

    fn push(&mut self, message: NewMessage, source: String) {
        self.n_bytes += message.message.size_bytes();
        self.batch.messages.push(message);
        self.batch.sources.push_back(source);
        if self.batch.messages.len() >= self.batch_max || self.n_bytes >= BATCH_BYTES {
            self.send();
        }
    }

    fn send(&mut self) {
        if self.batch.messages.is_empty() {
            return;
        }
        let batch = Batch {
            messages: std::mem::take(&mut self.batch.messages),
            sources: std::mem::take(&mut self.batch.sources),
        };
        self.n_bytes = 0;
        // Whoever does not listen any more has stopped; see `is_closed`.
        let _ = self.batches.blocking_send(Ok(batch));
    }

    fn is_closed(&self) -> bool {
        self.batches.is_closed()
    }
}
