//! HTTP/1 on the wire as nobody should send it: lengths that contradict each other, heads that are none, requests in one
//! packet. One request must never be read as two, and a connection that is out of step must end.

use crate::site::{Plan, Site};

/// What would be answered if the bytes behind a bad request were taken for another one.
const MARKER: &str = "GET /v2 HTTP/1.1\r\nhost: t\r\n\r\n";

async fn answers(site: &Site, bytes: &str) -> Vec<u16> {
    let mut wire = site.wire().await;
    wire.send(bytes).await;
    wire.send("GET /livez HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n").await;
    let all = String::from_utf8_lossy(&wire.end().await).into_owned();
    all.match_indices("HTTP/1.1 ").map(|(at, _)| all[at + 9..at + 12].parse().unwrap()).collect()
}

#[tokio::test]
async fn contradicting_lengths_end_the_connection() {
    let site = Site::open(Plan::default());
    for headers in [
        "content-length: -1",
        "content-length: +5",
        "content-length: 5, 6",
        "content-length: 5\r\ncontent-length: 6",
        "content-length: 99999999999999999999",
        "content-length: five",
        "transfer-encoding: xchunked",
        "transfer-encoding: chunked, gzip",
        "transfer-encoding: chunked, chunked\r\ncontent-length: 5",
    ] {
        let request = format!("POST /v2/models/echo/infer HTTP/1.1\r\nhost: t\r\n{headers}\r\n\r\n12345{MARKER}");
        assert_eq!(answers(&site, &request).await, [400], "{headers}");
    }
}

#[tokio::test]
async fn a_chunked_body_ends_where_its_chunks_do() {
    let site = Site::open(Plan::default());
    let both =
        "POST /v2/models/echo/infer HTTP/1.1\r\nhost: t\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n";
    // The bytes after the last chunk are the next request, whatever the length said; or the connection has ended.
    let got = answers(&site, &format!("{both}0\r\n\r\n{MARKER}")).await;
    assert!([&[400][..], &[400, 200, 200]].contains(&&got[..]), "{got:?}");
}

#[tokio::test]
async fn heads_that_are_none() {
    let site = Site::open(Plan::default());
    for (request, status) in [
        ("GET /v2 HTTP/1.1\r\nno colon here\r\n\r\n", 400),
        ("GET /v2 HTTP/1.1\r\nx: a\0b\r\n\r\n", 400),
        ("GET /v2 HTTP/1.1\r\n x: folded\r\n\r\n", 400),
        ("GET /v2 HTTP/9.9\r\n\r\n", 400),
        ("GET\r\n\r\n", 400),
        ("\u{1}\u{2}\u{3}\r\n\r\n", 400),
    ] {
        assert_eq!(answers(&site, request).await, [status], "{request:?}");
    }
    let many = "x: y\r\n".repeat(1000);
    assert_eq!(answers(&site, &format!("GET /v2 HTTP/1.1\r\n{many}\r\n")).await, [431]);
}

#[tokio::test]
async fn requests_in_one_packet_are_answered_in_order() {
    let site = Site::open(Plan::default());
    let mut wire = site.wire().await;
    let paths: Vec<String> = (0..100).map(|i| if i == 50 { "/nowhere".to_owned() } else { "/v2".to_owned() }).collect();
    let all: String = paths.iter().map(|path| format!("GET {path} HTTP/1.1\r\nhost: t\r\n\r\n")).collect();
    wire.send(all).await;
    for path in paths {
        let status = if path == "/v2" { 200 } else { 404 };
        assert_eq!(wire.reply(false).await.status, status);
    }
}

#[tokio::test]
async fn strange_paths_name_nothing() {
    let site = Site::open(Plan::default());
    let mut wire = site.wire().await;
    for path in [
        "/v2/models/../../etc/passwd",
        "/v2/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/v2/models/%00",
        "/v2/models/echo%00",
        "/v2/models/echo/",
        "//v2/models/echo",
        "/v2/models/ECHO",
        "/v2/models/%ff",
        "/v2/models/%25%32%65",
        "/v2/models/echo/versions/2",
    ] {
        assert_eq!(wire.get(path).await.status, 404, "{path}");
    }
    assert_eq!(wire.get("/v2/models/echo").await.status, 200);
    assert_eq!(wire.get("/v2/models/%65cho?query=1").await.status, 200);
}
