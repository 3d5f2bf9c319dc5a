//! Who is let in: by address, by page, by ticket?

use std::time::{Duration, SystemTime};

use coplay_proto::signal::{
    ClientMessage, SUBPROTOCOL, ServerMessage, SignalError,
    lobby::{Credentials, LobbyQuery},
};
use coplay_signaling::{AddressLimits, Config, Origins, Pace, Proxies, Running, Secret, Stun, network, ticket};
use futures_util::StreamExt;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, client::IntoClientRequest, http::HeaderValue},
};

use crate::client::*;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Few of everything, and a reverse proxy on this machine that is believed.
fn guarded(change: impl FnOnce(&mut AddressLimits)) -> Running {
    let many = Pace { burst: 1000, per_minute: 0 };
    let mut address_limits =
        AddressLimits { peers: 1000, joins: many, rooms: many, failures: many, ..AddressLimits::default() };
    change(&mut address_limits);
    let proxies = Proxies { trusted: vec![network("127.0.0.0/8").unwrap()], ..Proxies::default() };
    start(Config { address_limits, proxies, ..Config::local().stun(Stun::Off) })
}

/// Asks for a WebSocket with one more header: what is there then, or the status it was refused with.
async fn ask(server: &Running, path: &str, header: &'static str, value: &str) -> Result<Socket, u16> {
    let mut request = format!("{}{path}", server.url()).into_client_request().unwrap();
    request.headers_mut().insert(header, HeaderValue::from_str(value).unwrap());
    match soon("the handshake", connect_async(request)).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

async fn from(server: &Running, path: &str, address: &str) -> Result<Socket, u16> {
    ask(server, path, "X-Forwarded-For", address).await
}

/// Joins with a password; why that was refused, if it was.
async fn with_password(server: &Running, path: &str, address: &str, password: &str) -> Result<Socket, SignalError> {
    let mut request = format!("{}{path}", server.url()).into_client_request().unwrap();
    let credentials = Credentials { password: Some(password.into()), ..Credentials::default() };
    let offers = credentials.subprotocols().join(", ");
    for (header, value) in [("X-Forwarded-For", address), ("Sec-WebSocket-Protocol", &offers)] {
        request.headers_mut().insert(header, HeaderValue::from_str(value).unwrap());
    }
    let (mut socket, _) = soon("the handshake", connect_async(request)).await.unwrap();
    let greeting = soon("a greeting", socket.next()).await.unwrap().unwrap();
    match serde_json::from_str(greeting.to_text().unwrap()).unwrap() {
        ServerMessage::Error(error) => Err(error),
        ServerMessage::Welcome(_) => Ok(socket),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_address_guesses_so_many_passwords_of_all_rooms_together() {
    let server = guarded(|limits| limits.failures = Pace { burst: 2, per_minute: 0 });
    let _a = with_password(&server, "/a", "192.0.2.1", "right").await.unwrap();
    let _b = with_password(&server, "/b", "192.0.2.1", "right").await.unwrap();
    for room in ["/a", "/b"] {
        let refused = with_password(&server, room, "192.0.2.2", "wrong").await.err();
        assert_eq!(refused, Some(SignalError::WrongPassword));
    }
    assert_eq!(with_password(&server, "/a", "192.0.2.2", "right").await.err(), Some(SignalError::TooMuch));
    assert!(with_password(&server, "/a", "192.0.2.3", "right").await.is_ok());
}

#[tokio::test]
async fn an_address_joins_so_often_and_no_other_suffers() {
    let server = guarded(|limits| limits.joins = Pace { burst: 3, per_minute: 0 });
    for _ in 0..3 {
        assert!(from(&server, "/r", "192.0.2.1").await.is_ok());
    }
    assert_eq!(from(&server, "/r", "192.0.2.1").await.err(), Some(429));
    // What the client itself wrote in front is not believed.
    assert_eq!(from(&server, "/r", "6.6.6.6, 192.0.2.1").await.err(), Some(429));
    assert!(from(&server, "/r", "192.0.2.2").await.is_ok());
    // All of a /64 is one, and the next is another.
    for n in 0..3 {
        assert!(from(&server, "/r", &format!("2001:db8:0:1::{n}")).await.is_ok());
    }
    assert_eq!(from(&server, "/r", "2001:db8:0:1:ffff::").await.err(), Some(429));
    assert!(from(&server, "/r", "2001:db8:0:2::").await.is_ok());
}

#[tokio::test]
async fn an_address_has_so_many_peers_until_they_leave() {
    let server = guarded(|limits| limits.peers = 2);
    let one = from(&server, "/r", "192.0.2.1").await.ok();
    let _two = from(&server, "/r", "192.0.2.1").await.ok().unwrap();
    assert_eq!(from(&server, "/r", "192.0.2.1").await.err(), Some(429));
    drop(one);
    until(&server, coplay_signaling::Occupancy { rooms: 1, peers: 1 }).await;
    // The seat is free before the place of the address is, by a moment.
    soon("the place", async { while from(&server, "/r", "192.0.2.1").await.is_err() {} }).await;
}

#[tokio::test]
async fn an_address_makes_so_many_rooms_and_may_still_join() {
    let server = guarded(|limits| limits.rooms = Pace { burst: 2, per_minute: 0 });
    let _a = from(&server, "/a", "192.0.2.1").await.ok().unwrap();
    let _b = from(&server, "/b", "192.0.2.1").await.ok().unwrap();
    assert_eq!(from(&server, "/c", "192.0.2.1").await.err(), Some(429));
    assert!(from(&server, "/a", "192.0.2.1").await.is_ok());
    assert!(from(&server, "/c", "192.0.2.2").await.is_ok());
}

#[tokio::test]
async fn who_guesses_codes_has_to_wait_also_with_the_right_one() {
    let server = guarded(|limits| limits.failures = Pace { burst: 3, per_minute: 0 });
    let (_host, made) = Client::coplay(&server, "/").await;
    let right = format!("/{}?existing=1", made.room);
    assert!(from(&server, &right, "192.0.2.1").await.is_ok());
    for n in 0..3 {
        assert_eq!(from(&server, &format!("/WRONG{n}?existing=1"), "192.0.2.1").await.err(), Some(404));
    }
    assert_eq!(from(&server, &right, "192.0.2.1").await.err(), Some(429));
    assert!(from(&server, &right, "192.0.2.2").await.is_ok());
    assert!(from(&server, "/r", "192.0.2.1").await.is_ok(), "what is no guess is free");
}

#[tokio::test]
async fn who_is_no_trusted_proxy_is_not_believed() {
    // Nobody is trusted: all of these are one address, that of this machine, which is not limited.
    let address_limits = AddressLimits { joins: Pace { burst: 1, per_minute: 0 }, ..AddressLimits::default() };
    let server = start(Config { address_limits, ..Config::local().stun(Stun::Off) });
    for _ in 0..5 {
        assert!(from(&server, "/r", "192.0.2.1").await.is_ok());
    }
}

#[tokio::test]
async fn pages_of_other_sites_are_refused() {
    let origins = Origins::only(["https://play.example.org".to_owned()]).unwrap();
    let server = start(Config { origins, ..Config::local().stun(Stun::Off) });
    assert!(ask(&server, "/r", "Origin", "https://play.example.org").await.is_ok());
    assert_eq!(ask(&server, "/r", "Origin", "https://evil.example").await.err(), Some(403));
    Client::stock(&server, "/r").await;
    // With the subprotocol it is told as everything is.
    let mut request = format!("{}/r", server.url()).into_client_request().unwrap();
    request.headers_mut().insert("Origin", HeaderValue::from_static("https://evil.example"));
    request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(SUBPROTOCOL));
    let (mut socket, _) = connect_async(request).await.unwrap();
    let told = soon("why", socket.next()).await.unwrap().unwrap().into_text().unwrap();
    assert!(told.contains("origin_refused") && told.contains("https://evil.example"), "{told}");
}

#[tokio::test]
async fn who_has_no_ticket_is_refused_where_one_is_asked_for() {
    let secret = Secret::from("a secret of sixteen or more");
    let server = start(Config { tickets: Some(secret.clone()), ..Config::local().stun(Stun::Off) });
    let hour = |hours: i64| {
        let now = SystemTime::now();
        let hour = Duration::from_secs(3600);
        if hours > 0 { now + hour } else { now - hour }
    };
    let (error, code) = Client::refused(&server, "/r").await;
    assert!(matches!(&error, SignalError::TicketRefused { detail } if detail.contains("?ticket=")) && code == 4401);
    let shows = async |path: &str, ticket: &str| {
        let credentials = Credentials { ticket: Some(ticket.into()), ..Credentials::default() };
        Client::from(&server, path, &credentials, "127.0.0.1").await
    };
    assert_eq!(Client::denied(&server, "/r").await.0, 401);
    let good = ticket(&secret, Some("r"), hour(1));
    Client::coplay(&server, &format!("/r?ticket={good}")).await;
    Client::stock(&server, &format!("/r?next=2&ticket={good}")).await;
    let (any, expired) = (ticket(&secret, None, hour(1)), ticket(&secret, Some("r"), hour(-1)));
    let forged = ticket(&Secret::from("another secret, also long"), Some("r"), hour(1));
    // Where no URL tells it.
    assert!(shows("/r", &good).await.is_ok() && shows("/r", &expired).await.is_err());
    assert!(shows(&format!("/r?ticket={good}"), &expired).await.is_err(), "that one counts");
    for (path, ticket) in [("/other", &good), ("/", &good), ("/r", &expired), ("/r", &forged), ("/r", &"x".to_owned())]
    {
        let (error, _) = Client::refused(&server, &format!("{path}?ticket={ticket}")).await;
        assert!(matches!(error, SignalError::TicketRefused { .. }), "{path} {ticket}: {error}");
    }
    // One for any room makes rooms as well; their code is good in small letters with a ticket for it.
    let (_host, made) = Client::coplay(&server, &format!("/?ticket={any}")).await;
    let code = ticket(&secret, Some(&made.room), hour(1));
    let small = made.room.to_ascii_lowercase();
    Client::coplay(&server, &format!("/{small}?existing=1&ticket={code}")).await;
}

#[tokio::test]
async fn a_quick_match_and_the_public_list_take_a_ticket_for_any_room() {
    let secret = Secret::from("a secret of sixteen or more");
    let failures = Pace { burst: 2, per_minute: 0 };
    let proxies = Proxies { trusted: vec![network("127.0.0.0/8").unwrap()], ..Proxies::default() };
    let address_limits = AddressLimits { failures, ..AddressLimits::default() };
    let config = Config { address_limits, proxies, ..Config::local().stun(Stun::Off) };
    let server = start(Config { tickets: Some(secret.clone()), ..config });
    let soon = SystemTime::now() + Duration::from_secs(3600);
    let (any, room) = (ticket(&secret, None, soon), ticket(&secret, Some("r"), soon));
    for path in ["/-/match?size=2", "/-/lobbies?"] {
        let refused = async |url: &str| Client::refused(&server, url).await;
        for url in [path.to_owned(), format!("{path}&ticket={room}"), format!("{path}&ticket=x")] {
            let (error, code) = refused(&url).await;
            assert!(matches!(error, SignalError::TicketRefused { .. }) && code == 4401, "{url}: {error}");
        }
        // Nor is a token of a seat of nobody's a way in.
        let credentials = Credentials { resume: Some("AAAA".into()), ..Credentials::default() };
        let error = Client::from(&server, path, &credentials, "127.0.0.1").await.err();
        assert_eq!(error, Some(SignalError::SeatGone), "{path}");
    }
    // Guesses count, and then the right one waits, too.
    let tries = async |ticket: &str| {
        let url = format!("/-/match?size=2&ticket={ticket}");
        let credentials = Credentials::default().subprotocols().join(", ");
        let mut request = format!("{}{url}", server.url()).into_client_request().unwrap();
        for (header, value) in [("X-Forwarded-For", "192.0.2.1"), ("Sec-WebSocket-Protocol", &credentials)] {
            request.headers_mut().insert(header, HeaderValue::from_str(value).unwrap());
        }
        let (mut socket, _) = connect_async(request).await.unwrap();
        let told = socket.next().await.unwrap().unwrap();
        serde_json::from_str::<ServerMessage>(told.to_text().unwrap()).unwrap()
    };
    for _ in 0..2 {
        assert!(matches!(tries("x").await, ServerMessage::Error(SignalError::TicketRefused { .. })));
    }
    assert_eq!(tries(&any).await, ServerMessage::Error(SignalError::TooMuch));

    let mut first = Client::open(&server, &format!("/-/match?size=2&ticket={any}"), true).await.unwrap();
    assert!(matches!(first.next().await, ServerMessage::Waiting(_)));
    let credentials = Credentials { ticket: Some(any.as_str().into()), ..Credentials::default() };
    let mut second = Client::wait(&server, "/-/match?size=2", &credentials).await;
    while !matches!(second.next().await, ServerMessage::Welcome(_)) {}
    let mut menu = Client::wait(&server, "/-/lobbies", &credentials).await;
    menu.tell(&ClientMessage::List(LobbyQuery::default())).await;
    assert!(matches!(menu.next().await, ServerMessage::Page(_)));
}

#[test]
fn a_ticket_secret_that_can_be_guessed_is_refused() {
    let config = Config { tickets: Some("short".into()), ..Config::local().stun(Stun::Off) };
    let error = coplay_signaling::Signaling::spawn(config).unwrap_err();
    assert!(error.to_string().contains("openssl rand"), "{error}");
}
