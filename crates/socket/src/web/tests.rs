use std::cell::Cell;

use js_sys::{Array, Map, Promise, Reflect};
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::JsFuture;
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

use super::{page::OnPageHide, path::Pair, *};
use crate::{PathKind, Rendezvous};

wasm_bindgen_test_configure!(run_in_browser);

async fn sleep(milliseconds: i32) {
    let promise = Promise::new(&mut |resolve, _| {
        let window = web_sys::window().expect("a page");
        window.set_timeout_with_callback_and_timeout_and_arguments_0(&resolve, milliseconds).expect("a timer");
    });
    JsFuture::from(promise).await.expect("it is never rejected");
}

fn browser(rendezvous: &Rendezvous) -> Browser {
    Browser::new(SocketConfig::default(), Some(rendezvous.signaller()))
}

async fn until(a: &mut Browser, b: &mut Browser, done: impl Fn(&Browser, &Browser) -> bool) {
    let end = now() + Duration::from_secs(20);
    while !done(a, b) {
        assert!(now() < end, "waited in vain");
        while a.poll(now()).or_else(|| b.poll(now())).is_some() {}
        sleep(1).await;
    }
}

fn is_open(browser: &Browser) -> bool {
    browser.peers.values().any(|peer| browser.switchboard.is_open(peer.attempt()))
}

#[wasm_bindgen_test]
async fn a_peer_that_is_disconnected_leaves_nothing_behind() {
    let rendezvous = Rendezvous::new();
    let mut a = browser(&rendezvous);
    let before = Rc::strong_count(&a.inbox);
    let mut b = browser(&rendezvous);
    until(&mut a, &mut b, |a, b| is_open(a) && is_open(b)).await;
    assert!(Rc::strong_count(&a.inbox) > before, "callbacks know the inbox");

    let peer = *a.peers.keys().next().expect("connected");
    a.disconnect(peer);
    // Its connection lingers a little, and nothing that it says is heard.
    sleep(400).await;
    assert_eq!(Rc::strong_count(&a.inbox), before);
    assert!(a.peers.is_empty());
}

#[wasm_bindgen_test]
async fn an_attempt_that_is_given_up_midway_leaves_nothing_behind() {
    let rendezvous = Rendezvous::new();
    let mut a = browser(&rendezvous);
    while a.poll(now()).is_some() {}
    let before = Rc::strong_count(&a.inbox);
    // Somebody who never answers: a's offer is being made when it is stopped.
    let mut silent = rendezvous.signaller();
    silent.dial(crate::Dialect::Coplay);
    while a.poll(now()).is_some() {}
    let peer = *a.peers.keys().next().expect("an attempt");
    a.disconnect(peer);
    sleep(400).await;
    assert_eq!(Rc::strong_count(&a.inbox), before);
    assert!(silent.poll().is_some(), "it had entered");
}

#[wasm_bindgen_test]
async fn an_alarm_rings_once_at_the_earliest_time_it_was_set_for() {
    let rung = Rc::new(Cell::new(0));
    let alarm = Alarm::new({
        let rung = rung.clone();
        move || rung.set(rung.get() + 1)
    });
    let start = now();
    alarm.set(start, Some(start + Duration::from_secs(3600)));
    alarm.set(start, Some(start + Duration::from_millis(20)));
    alarm.set(start, Some(start + Duration::from_secs(1800)));
    while rung.get() == 0 {
        assert!(now() < start + Duration::from_secs(20), "it never rang");
        sleep(5).await;
    }
    assert!(now() >= start + Duration::from_millis(20), "before its time");
    sleep(50).await;
    assert_eq!(rung.get(), 1);
    // It can be set again, and rings no more when it is dropped.
    alarm.set(now(), Some(now() + Duration::from_millis(20)));
    drop(alarm);
    sleep(100).await;
    assert_eq!(rung.get(), 1);
}

#[wasm_bindgen_test]
fn the_page_is_heard_to_go_until_nobody_listens() {
    let hidden = Rc::new(Cell::new(0));
    let listener = OnPageHide::new({
        let hidden = hidden.clone();
        move || hidden.set(hidden.get() + 1)
    });
    let go = || {
        let event = web_sys::Event::new("pagehide").expect("an event");
        web_sys::window().expect("a page").dispatch_event(&event).expect("dispatched");
    };
    go();
    assert_eq!(hidden.get(), 1);
    drop(listener);
    go();
    assert_eq!(hidden.get(), 1);
}

/// A report of `getStats`: entries of an id and fields.
fn report(entries: &[(&str, &[(&str, JsValue)])]) -> JsValue {
    let report = Map::new();
    for (id, fields) in entries {
        let stats = js_sys::Object::new();
        for (name, value) in *fields {
            Reflect::set(&stats, &(*name).into(), value).expect("an object");
        }
        report.set(&(*id).into(), &stats);
    }
    report.into()
}

#[wasm_bindgen_test]
fn the_pair_in_use_is_found_as_browsers_report_it() {
    let local = ("L", &[("candidateType", "host".into()), ("address", "192.0.2.7".into()), ("port", 5000.into())][..]);
    let remote = ("R", &[("candidateType", "relay".into()), ("address", "2001:db8::1".into()), ("port", 9.into())][..]);
    let ids = [("localCandidateId", JsValue::from("L")), ("remoteCandidateId", "R".into())];
    let other = ("O", &[("type", "candidate-pair".into()), ids[0].clone(), ids[1].clone()][..]);
    let [a, b] = ids;
    // Chromium and Safari: the transport names it.
    let transport = ("T", &[("type", "transport".into()), ("selectedCandidatePairId", "P".into())][..]);
    let pair = [("type", "candidate-pair".into()), a.clone(), b.clone(), ("currentRoundTripTime", 0.025.into())];
    let found = Pair::of(&report(&[other, ("P", &pair), transport, local, remote])).expect("a pair");
    assert_eq!(
        found,
        Pair {
            kind: PathKind::Relay,
            local: "udp 192.0.2.7:5000 host".into(),
            remote: "udp [2001:db8::1]:9 relay".into(),
            rtt: Some(Duration::from_millis(25)),
        }
    );
    // Firefox: the pair is marked.
    let marked = [("type", "candidate-pair".into()), a.clone(), b.clone(), ("selected", JsValue::TRUE)];
    let found = Pair::of(&report(&[other, ("P", &marked), local, remote])).expect("a pair");
    assert_eq!((found.kind, found.rtt), (PathKind::Relay, None));
    // What is hidden, and what is not there.
    let hidden = ("L", &[("candidateType", "prflx".into()), ("address", "".into()), ("port", 1.into())][..]);
    let found = Pair::of(&report(&[("P", &marked), hidden, hidden, ("R", hidden.1)])).expect("a pair");
    assert_eq!((found.kind, found.local.as_str()), (PathKind::PeerReflexive, "udp hidden:1 peer-reflexive"));
    let pair = [a, b, ("type", "candidate-pair".into()), ("currentRoundTripTime", f64::NAN.into())];
    for broken in [
        report(&[]),
        report(&[other, local, remote]),
        report(&[("P", &pair), transport]),
        report(&[
            ("P", &pair),
            ("T", &[("type", "transport".into()), ("selectedCandidatePairId", Array::new().into())]),
        ]),
        report(&[("P", &pair), transport, local, ("R", &[("candidateType", 7.into())])]),
    ] {
        assert_eq!(Pair::of(&broken), None);
    }
    let odd = Pair::of(&report(&[("P", &pair), transport, local, remote])).expect("a pair");
    assert_eq!(odd.rtt, None, "what is no number of seconds is no round trip");
}
