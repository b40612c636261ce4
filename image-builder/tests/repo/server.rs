//! A web server for static files.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// A web server that serves a folder, with ranges. It cuts off the first `cuts` answers about archives half-way.
pub(crate) fn serve(folder: PathBuf, cuts: u64) -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let sent = Arc::new(AtomicU64::new(0));
    let (counter, left) = (sent.clone(), AtomicU64::new(cuts));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let Some(request) = lines.next() else { continue };
            let path = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
            let mut from = 0;
            for line in lines.take_while(|line| !line.is_empty()) {
                if let Some(range) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
                    from = range.trim_end_matches('-').parse().unwrap();
                }
            }
            let Ok(bytes) = fs::read(folder.join(&path)) else {
                let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                continue;
            };
            let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
            let body = &bytes[from..];
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let cut = path.starts_with("archives/") && left.load(Ordering::Relaxed) > 0;
            let body = if cut { &body[..body.len() / 2] } else { body };
            if cut {
                left.fetch_sub(1, Ordering::Relaxed);
            }
            if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).is_ok()
                && path.starts_with("archives/")
            {
                counter.fetch_add(body.len() as u64, Ordering::Relaxed);
            }
        }
    });
    (base, sent)
}
