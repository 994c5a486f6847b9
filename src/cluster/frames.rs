//! One watch response of the Kubernetes API, line by line.
//!
//! A response body in, [`Frame`]s out, borrowed from one line buffer that is used again and again. It decodes no objects
//! and never asks a second time.

use super::wire::Text;
use futures::{AsyncBufReadExt, io::AsyncBufRead};
use kube::core::Status;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{pin::Pin, time::Duration};
use tokio::time::timeout;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why reading from an API server stopped, by what to do next.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// The server no longer knows the version to read on from: list anew.
    #[error("the version to read on from is gone")]
    Expired,
    /// The server has no streaming lists: list by pages.
    #[error("the API server refuses a streaming list")]
    StreamingRefused(#[source] BoxError),
    /// The path does not exist: ask discovery what is served, and wait.
    #[error("the API server does not serve the kind here")]
    NotServed,
    /// Anything else, forbidden included: try again later, not before `after`.
    #[error("reading from the API server failed")]
    Failed {
        /// What the server asked to wait.
        after: Duration,
        /// What went wrong.
        #[source]
        source: BoxError,
    },
}

impl ReadError {
    /// A failure of our own making or finding.
    pub(super) fn failed(source: impl Into<BoxError>) -> Self {
        Self::Failed { after: Duration::ZERO, source: source.into() }
    }

    /// Whether the server says that we have no right to this.
    pub(super) fn is_forbidden(&self) -> bool {
        match self {
            Self::StreamingRefused(source) | Self::Failed { source, after: _ } => {
                source.downcast_ref::<Status>().is_some_and(|status| status.code == 403)
            }
            Self::Expired | Self::NotServed => false,
        }
    }

    /// No answer came in time.
    pub(super) fn silent(waited: Duration) -> Self {
        Self::failed(format!("no answer within {waited:?}"))
    }
}

impl From<kube::Error> for ReadError {
    fn from(error: kube::Error) -> Self {
        // kube's own error repeats the status twice over in its text; the status alone says it once.
        if let kube::Error::Api(status) = error { Self::from(*status) } else { Self::failed(error) }
    }
}

impl From<Status> for ReadError {
    fn from(status: Status) -> Self {
        match status.code {
            410 => Self::Expired,
            404 => Self::NotServed,
            _ => {
                let after = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
                Self::Failed { after: Duration::from_secs(after.into()), source: Box::new(status) }
            }
        }
    }
}

/// One thing a watch said. Objects are their JSON text.
// No Debug outside tests: there may be Secrets in it.
#[derive(PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub(super) enum Frame<'a> {
    /// This object exists and looks like this.
    Exists(&'a str),
    /// This object is gone; this is how it looked last.
    Gone(&'a str),
    /// Nothing up to this version is missing.
    Bookmark {
        /// The version.
        version: String,
        /// Whether every object that existed before the watch has now been sent.
        list_complete: bool,
    },
}

/// The frames of one response.
pub(super) struct Frames<R = Pin<Box<dyn AsyncBufRead + Send>>> {
    body: R,
    line: Vec<u8>,
    silence_max: Duration,
    silent: bool,
}

impl Frames {
    /// Sends a watch `request` and waits for the answer to begin. When nothing arrives for `silence_max`, then or later, the
    /// connection is taken for dead.
    pub(super) async fn open(
        client: &kube::Client,
        request: http::Request<Vec<u8>>,
        silence_max: Duration,
    ) -> Result<Self, ReadError> {
        let answer = timeout(silence_max, client.request_stream(request)).await;
        let body = answer.map_err(|_silence| ReadError::silent(silence_max))??;
        Ok(Frames::over(Box::pin(body), silence_max))
    }
}

impl<R: AsyncBufRead + Unpin> Frames<R> {
    fn over(body: R, silence_max: Duration) -> Self {
        Self { body, line: Vec::new(), silence_max, silent: false }
    }

    /// The next frame; `None` when the response ended or fell silent, which is no failure: take the watch up anew.
    ///
    /// Dropping the future half-way loses what was read of a line: drop the whole value then, too.
    pub(super) async fn next(&mut self) -> Result<Option<Frame<'_>>, ReadError> {
        loop {
            self.line.clear();
            match timeout(self.silence_max, self.body.read_until(b'\n', &mut self.line)).await {
                Err(_silence) => {
                    self.silent = true;
                    return Ok(None);
                }
                Ok(Err(broken)) => return Err(ReadError::failed(broken)),
                Ok(Ok(_)) if !self.line.ends_with(b"\n") => return Ok(None),
                Ok(Ok(_)) if self.line.trim_ascii().is_empty() => {}
                Ok(Ok(_)) => break,
            }
        }
        frame(&self.line).map(Some)
    }

    /// Whether the response came to no end but fell silent.
    pub(super) fn fell_silent(&self) -> bool {
        self.silent
    }
}

/// `{"type": …, "object": …}`.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: Text,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct Marker {
    metadata: MarkerMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MarkerMetadata {
    resource_version: String,
    annotations: Option<MarkerAnnotations>,
}

#[derive(Deserialize)]
struct MarkerAnnotations {
    #[serde(rename = "k8s.io/initial-events-end")]
    initial_events_end: Option<String>,
}

fn frame(line: &[u8]) -> Result<Frame<'_>, ReadError> {
    let line: Line<'_> = serde_json::from_slice(line).map_err(ReadError::failed)?;
    let json = line.object.get();
    match &*line.kind.0 {
        "ADDED" | "MODIFIED" => Ok(Frame::Exists(json)),
        "DELETED" => Ok(Frame::Gone(json)),
        "BOOKMARK" => {
            let Marker { metadata } = serde_json::from_str(json).map_err(ReadError::failed)?;
            let end = metadata.annotations.and_then(|annotations| annotations.initial_events_end);
            Ok(Frame::Bookmark { version: metadata.resource_version, list_complete: end.as_deref() == Some("true") })
        }
        "ERROR" => {
            let status: Status = serde_json::from_str(json).map_err(ReadError::failed)?;
            Err(status.into())
        }
        other => Err(ReadError::failed(format!("an event of type {other:?} is not known"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{TryStreamExt as _, io::Cursor};

    const SILENCE_MAX: Duration = Duration::from_secs(135);

    async fn next(frames: &mut Frames<Cursor<&[u8]>>) -> Option<String> {
        frames.next().await.unwrap().map(|frame| format!("{frame:?}"))
    }

    #[tokio::test]
    async fn a_response_is_read_line_by_line_and_a_torn_last_line_is_not_read() {
        let body = concat!(
            r#"{"type":"ADDED","object":{"a":1}}"#,
            "\n\n",
            r#"{"object":{"b":2},"type":"MODIFIED"}"#,
            "\n",
            r#"{"type":"DELETED","object":{"c":3}}"#,
            "\n",
            r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"7"}}}"#,
            "\n",
            r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9","annotations":{"k8s.io/initial-events-end":"true"}}}}"#,
            "\n",
            r#"{"type":"ADDED","obj"#,
        );
        let mut frames = Frames::over(Cursor::new(body.as_bytes()), SILENCE_MAX);
        assert_eq!(next(&mut frames).await.unwrap(), r#"Exists("{\"a\":1}")"#);
        assert_eq!(next(&mut frames).await.unwrap(), r#"Exists("{\"b\":2}")"#);
        assert_eq!(next(&mut frames).await.unwrap(), r#"Gone("{\"c\":3}")"#);
        assert_eq!(next(&mut frames).await.unwrap(), r#"Bookmark { version: "7", list_complete: false }"#);
        assert_eq!(next(&mut frames).await.unwrap(), r#"Bookmark { version: "9", list_complete: true }"#);
        assert_eq!(next(&mut frames).await, None);
        assert!(!frames.fell_silent());
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_that_falls_silent_ends_although_nobody_closes_it() {
        let almost = SILENCE_MAX.saturating_sub(Duration::from_secs(1));
        let slow = futures::stream::unfold(0, |told| async move {
            tokio::time::sleep(almost).await;
            match told {
                0..3 => Some((Ok::<_, std::io::Error>("{\"type\":\"ADDED\",\"object\":{}}\n"), told + 1)),
                _ => std::future::pending().await,
            }
        });
        let mut frames = Frames::over(Box::pin(slow.into_async_read()), SILENCE_MAX);
        let begun = crate::clock::now();
        for _ in 0..3 {
            assert_eq!(frames.next().await.unwrap(), Some(Frame::Exists("{}")));
        }
        assert!(!frames.fell_silent());
        assert_eq!(frames.next().await.unwrap(), None);
        assert!(frames.fell_silent());
        assert_eq!((crate::clock::now() - begun).as_secs(), (almost * 3 + SILENCE_MAX).as_secs());
    }

    #[test]
    fn an_expired_version_in_an_error_event_says_to_list_anew() {
        let line = br#"{"type":"ERROR","object":{"kind":"Status","status":"Failure","code":410,"reason":"Expired","message":"too old"}}"#;
        assert!(matches!(frame(line), Err(ReadError::Expired)));
        let line = br#"{"type":"ERROR","object":{"kind":"Status","status":"Failure","code":500,"message":"storage"}}"#;
        assert!(matches!(frame(line), Err(ReadError::Failed { .. })));
    }

    #[test]
    fn a_server_that_asks_to_wait_is_heard() {
        let status: Status = serde_json::from_str(
            r#"{"status":"Failure","code":429,"message":"slow down","details":{"retryAfterSeconds":3}}"#,
        )
        .unwrap();
        let ReadError::Failed { after, .. } = ReadError::from(status) else { panic!("a failure") };
        assert_eq!(after, Duration::from_secs(3));
    }
}
