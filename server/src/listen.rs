//! Sockets: how many may be open, how long one may be idle, and how they end when the server is told to stop.

use crate::App;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
use tokio::time::{Instant, Sleep, sleep, timeout};

/// What a client over the limit hears.
const FULL: &str = "{\"error\":{\"message\":\"too many connections are open\",\"type\":\"server_error\",\"param\":null,\
                    \"code\":\"unavailable\"}}";

/// What the kernel keeps of sound that a client has not taken yet. Left to itself it keeps minutes, which the engine would have
/// made for a client that may not be there.
const SEND_BUFFER: u32 = 64 << 10;

/// What clients whose speech is cut off by the server's end may take to hear that it is.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Listens on the first address that the host's name has.
pub async fn bind(host: &str, port: u16) -> io::Result<TcpListener> {
    let mut addresses = lookup_host((host, port)).await?;
    let address = addresses.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(cfg!(unix))?; // as a server that is started again needs it; elsewhere it means another thing
    socket.set_send_buffer_size(SEND_BUFFER)?; // connections have it from here
    socket.bind(address)?;
    socket.listen(1024)
}

/// Serves until the server is told to stop and what was under way has ended, or its time for that is over.
pub async fn serve(listener: TcpListener, app: Arc<App>) {
    let router = crate::router(&app);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = app.told_to_stop() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true); // a client that is gone already says so at the first read
                if app.metrics.sockets.fetch_add(1, SeqCst) >= app.config.open_sockets {
                    app.metrics.sockets.fetch_sub(1, SeqCst);
                    tokio::spawn(turn_away(stream));
                } else {
                    let socket = Socket { stream, app: app.clone(), stalled: None };
                    tokio::spawn(connection(socket, router.clone(), app.clone()));
                }
            }
            Err(e) => {
                // No descriptors left, mostly: they come back as connections end.
                eprintln!("qwentts-server: accept: {e}");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    until_closed(&app, Duration::from_secs(app.config.drain_s)).await;
    app.close();
    until_closed(&app, LAST_WORDS).await;
}

/// Until no connection is open, or this time is over.
async fn until_closed(app: &App, time: Duration) {
    let until = Instant::now() + time;
    while app.metrics.sockets.load(SeqCst) > 0 && Instant::now() < until {
        sleep(Duration::from_millis(10)).await;
    }
}

async fn turn_away(mut stream: TcpStream) {
    let length = FULL.len();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
         retry-after: 1\r\nconnection: close\r\n\r\n{FULL}"
    );
    // It is told if it listens: what it has sent is read, since a socket that is closed on unread bytes takes its last words
    // with it.
    let _ = timeout(Duration::from_secs(1), async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        let mut unread = [0; 1024];
        while stream.read(&mut unread).await? > 0 {}
        io::Result::Ok(())
    })
    .await;
}

async fn connection(socket: Socket, router: Router, app: Arc<App>) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        // Also the time until the next request begins.
        .header_read_timeout(Duration::from_secs(app.config.idle_s))
        .serve_connection(TokioIo::new(socket), TowerToHyperService::new(router))
        .with_upgrades();
    let mut served = std::pin::pin!(served);
    // An error is a client that went away or spoke no HTTP; there is nobody to tell.
    tokio::select! {
        _ = served.as_mut() => {}
        () = app.told_to_stop() => {
            served.as_mut().graceful_shutdown();
            let _ = served.await;
        }
    }
}

/// A connection that counts as open until it is dropped, and that ends when its client reads nothing for too long.
struct Socket {
    stream: TcpStream,
    app: Arc<App>,
    /// Runs while a write waits.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    fn watch<T>(&mut self, cx: &mut Context, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let idle = Duration::from_secs(self.app.config.idle_s);
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(idle)));
        stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.app.metrics.sockets.fetch_sub(1, SeqCst);
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context, into: &mut ReadBuf) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context,
        parts: &[io::IoSlice],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
