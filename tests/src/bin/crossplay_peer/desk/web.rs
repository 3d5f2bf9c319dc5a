//! The desk as a page reaches it: `fetch`, at where the page came from.
//!
//! What the browser has is reached by name, and not by features of web-sys: those would be other ones than the games
//! build it with, and everything that stands on it would be built twice.

use coplay_tests::crossplay::{Order, Reached};
use js_sys::{Function, Object, Promise, Reflect, global};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::UrlSearchParams;

use super::{Parameters, order};

/// Tells the desk that this peer is there, and runs `play` when it is its turn to join.
pub(crate) fn when_told_to_join(play: impl FnOnce(Parameters) + 'static) {
    spawn_local(async move {
        let parameters = parameters().and_then(|query| Parameters::read(|name| query.get(name)));
        let parameters = parameters.unwrap_or_else(|error| panic!("{error}"));
        let body = serde_json::to_string(&Reached::Loaded).unwrap_or_default();
        match send(&parameters, body).await {
            Ok(Order::Join) => play(parameters),
            other => panic!("the desk ordered {other:?} instead of joining"),
        }
    });
}

/// Posts what was reached, and hands the answer over when it comes.
pub(super) fn post(parameters: Parameters, body: String, answered: impl FnOnce(Result<Order, String>) + 'static) {
    spawn_local(async move { answered(send(&parameters, body).await) });
}

async fn send(parameters: &Parameters, body: String) -> Result<Order, String> {
    let answer = request(&parameters.path(), &body).await;
    order(&answer.map_err(|error| format!("the desk cannot be reached: {error:?}"))?)
}

async fn request(path: &str, body: &str) -> Result<String, JsValue> {
    let headers = Object::new();
    Reflect::set(&headers, &"content-type".into(), &"application/json".into())?;
    let init = Object::new();
    for (key, value) in [("method", "POST".into()), ("body", body.into()), ("headers", headers.into())] {
        Reflect::set(&init, &key.into(), &value)?;
    }
    let fetch: Function = Reflect::get(&global(), &"fetch".into())?.dyn_into()?;
    let response: Promise = fetch.call2(&JsValue::UNDEFINED, &path.into(), &init)?.dyn_into()?;
    let response = JsFuture::from(response).await?;
    let text: Promise = call(&response, "text")?.dyn_into()?;
    JsFuture::from(text).await?.as_string().ok_or(JsValue::NULL)
}

fn parameters() -> Result<UrlSearchParams, String> {
    let search = web_sys::window().ok_or("there is no window")?.location().search();
    search.and_then(|search| UrlSearchParams::new_with_str(&search)).map_err(|error| format!("{error:?}"))
}

/// The time of day in ms, the same in every process of this machine.
pub(crate) fn wall_millis() -> f64 {
    performance(|performance| Reflect::get(performance, &"timeOrigin".into())) + monotonic_millis()
}

/// A clock in ms that never jumps.
pub(crate) fn monotonic_millis() -> f64 {
    performance(|performance| call(performance, "now"))
}

fn performance(read: impl Fn(&JsValue) -> Result<JsValue, JsValue>) -> f64 {
    let performance = Reflect::get(&global(), &"performance".into());
    performance.and_then(|performance| read(&performance)).ok().and_then(|value| value.as_f64()).unwrap_or(0.0)
}

fn call(of: &JsValue, method: &str) -> Result<JsValue, JsValue> {
    Reflect::get(of, &method.into())?.dyn_into::<Function>()?.call0(of)
}
