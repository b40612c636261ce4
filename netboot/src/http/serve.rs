//! Serves HTTP on accepted connections: files by `super::files`, everything else by the web framework.

use super::{Peer, files, sender::Senders};
use crate::{
    accept::{self, Limits},
    handed_out,
    proto::http::request::{self, Read, read},
    shared::Shared,
};
use axum::{Extension, Router};
use bytes::{Bytes, BytesMut};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use socket2::SockRef;
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, join},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// A store has dozens of machines; each has one connection or two.
pub(crate) const LIMITS: Limits = Limits { most: 512, most_per_client: 32 };
pub(crate) const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// A connection on which nothing is asked for this long is closed.
pub(crate) const IDLE: Duration = Duration::from_secs(30);
/// A peer that acknowledges nothing for this long, or keeps its window shut, is gone.
pub(crate) const SILENT_PEER: Duration = Duration::from_secs(30);
/// Of a request for anything but a file.
pub(crate) const LONGEST_HEAD: usize = 64 << 10;
const GOODBYE: Duration = Duration::from_secs(3);

/// Serves until told to stop; requests under way get a moment to end.
pub async fn run(shared: Arc<Shared>, listener: TcpListener, router: Router, stop: CancellationToken) {
    let (teller, note) = handed_out::begin(&shared);
    let senders = match Senders::start(&shared, &teller) {
        Ok(senders) => Arc::new(senders),
        Err(error) => {
            tracing::error!("there is no HTTP: {error}");
            return;
        }
    };
    drop(teller);
    let note = tokio::spawn(note);
    let serve = |stream, peer| {
        let connection = Connection {
            shared: Arc::clone(&shared),
            senders: Arc::clone(&senders),
            router: router.clone().layer(Extension(Peer(peer))),
            peer,
            stop: stop.clone(),
        };
        connection.serve(stream)
    };
    let open = accept::run(listener, "the web server", LIMITS, &stop, serve).await;
    let _ = timeout(GOODBYE, open.wait()).await;
    // What is still being sent ends with the process.
    drop(senders);
    note.abort();
}

struct Connection {
    shared: Arc<Shared>,
    senders: Arc<Senders>,
    router: Router,
    peer: SocketAddr,
    stop: CancellationToken,
}

impl Connection {
    async fn serve(self, stream: TcpStream) {
        let socket = SockRef::from(&stream);
        // Short answers to firmware go out at once.
        let _ = socket.set_tcp_nodelay(true);
        let _ = socket.set_tcp_user_timeout(Some(SILENT_PEER));
        let peer = self.peer;
        if let Err(error) = self.requests(stream).await {
            tracing::debug!("the connection of {peer} ended: {error}");
        }
    }

    /// Answers requests for files, one after the other; the first other one takes the connection along.
    async fn requests(self, mut stream: TcpStream) -> io::Result<()> {
        let mac = Peer(self.peer).mac(&self.shared);
        let mut bytes = BytesMut::with_capacity(1 << 10);
        let mut patience = HEADER_TIMEOUT;
        loop {
            let head = tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                head = timeout(patience, head(&mut stream, &mut bytes)) => head,
            };
            match head {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return Ok(()),
                Ok(Err(error)) => return Err(error),
                Err(_) if bytes.is_empty() => return Ok(()),
                Err(late) => return Err(late.into()),
            }
            let request = match read(&bytes) {
                Read::File(request) => request,
                Read::More | Read::Other => return self.others(stream, bytes.freeze()).await,
            };
            let used = request.head_bytes;
            match files::answer(&self.shared, &self.senders, mac, stream, &request).await? {
                Some(same) => stream = same,
                None => return Ok(()),
            }
            let _ = bytes.split_to(used);
            patience = IDLE;
        }
    }

    /// One call of the API, or a page. Then the connection is closed: the next request on it could be for a file.
    async fn others(self, stream: TcpStream, begun: Bytes) -> io::Result<()> {
        let (reader, writer) = stream.into_split();
        let stream = join(io::Cursor::new(begun).chain(reader), writer);
        let mut connection = std::pin::pin!(
            hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_buf_size(LONGEST_HEAD)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(self.router))
        );
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        ended.map_err(io::Error::other)
    }
}

/// Reads until a whole head is there, or it is clear that none of ours will be. False when the client has closed the
/// connection between two requests.
async fn head(stream: &mut TcpStream, bytes: &mut BytesMut) -> io::Result<bool> {
    loop {
        if !bytes.is_empty() && (bytes.len() >= request::LONGEST_HEAD || read(bytes) != Read::More) {
            return Ok(true);
        }
        bytes.reserve(1 << 10);
        if stream.read_buf(bytes).await? == 0 {
            return if bytes.is_empty() { Ok(false) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
    }
}
