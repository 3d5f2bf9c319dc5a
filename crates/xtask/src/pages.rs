//! How a built page is served over HTTP.

use std::{
    net::SocketAddr,
    path::{Component, Path, PathBuf},
};

use axum::{
    Router,
    http::{HeaderName, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};

use crate::run::Result;

/// What to serve, and where.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The folder.
    dir: PathBuf,
    /// `ADDRESS:PORT`.
    listen: SocketAddr,
}

/// Serves a folder until the process is ended; says `serving` when it does.
pub(crate) fn serve(options: &Options) -> Result {
    let Options { dir, listen } = options;
    let cannot = |error| format!("cannot serve {} at {listen}: {error}", dir.display());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(cannot)?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(listen).await.map_err(cannot)?;
        println!("serving {} at {listen}", dir.display());
        let dir = dir.clone();
        let router = Router::new().fallback(move |uri: Uri| async move { file(&dir, uri.path()) });
        axum::serve(listener, router).await.map_err(cannot)
    })
}

/// The file of a folder that this path of a URL names. The headers isolate the page from others, for which a browser
/// gives it a fine-grained clock, and keep nothing back from the next build.
pub(crate) fn file(dir: &Path, path: &str) -> Response {
    let name = match path.trim_start_matches('/') {
        "" => Path::new("index.html"),
        name => Path::new(name),
    };
    let plain = name.components().all(|part| matches!(part, Component::Normal(_)));
    let read = |path: PathBuf| if plain { std::fs::read(path).ok() } else { None };
    let Some(bytes) = read(dir.join(name)) else {
        return (StatusCode::NOT_FOUND, "there is no such page here").into_response();
    };
    let kind = match name.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("wasm") => "application/wasm",
        Some("png") => "image/png",
        _ => "application/octet-stream",
    };
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-cache"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-embedder-policy"), "require-corp"),
    ];
    (headers, bytes).into_response()
}
