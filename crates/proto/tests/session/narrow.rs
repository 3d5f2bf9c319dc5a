//! What becomes of a world whose paths carry less than it would say: it is told less often, and never late.

use std::time::Duration;

use bytes::Bytes;
use coplay_proto::{
    NetId, PeerId, Topology,
    conditioner::Conditions,
    session::{Fact, Target},
    sim_net::SimNet,
};

use crate::support::{HONK, POS, SECOND, config};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// So many bytes a second, with a queue of half a second.
fn narrow(bytes: u32) -> Conditions {
    Conditions { latency: ms(30), bandwidth: Some(bytes), queue: bytes as usize / 2, ..Conditions::PERFECT }
}

/// How old what a guest hears is: of components by the owner's tick, of events by their content; and the oldest value
/// that it still has at the end.
#[derive(Debug, Default)]
struct Ages {
    written: Vec<Duration>,
    events: Vec<Duration>,
}

impl Ages {
    fn share(ages: &mut [Duration], share: f64) -> Duration {
        ages.sort_unstable();
        ages[((ages.len() - 1) as f64 * share) as usize]
    }
}

/// The host moves everything for so long, at 60 Hz.
fn play(net: &mut SimNet, host: PeerId, guest: PeerId, entities: &[NetId], time: Duration) -> Ages {
    let mut ages = Ages::default();
    let until = net.now() + time;
    let mut frame = 0_u64;
    while net.now() < until {
        let now = net.now();
        net.act(host, |session| {
            let stamp = (now.as_nanos() as u64).to_le_bytes();
            let value = Bytes::from([&stamp[..], &[0; 24]].concat());
            for entity in entities {
                session.write(*entity, POS, value.clone()).unwrap();
            }
            if frame.is_multiple_of(12) {
                session.send(Target::Others, HONK, Bytes::copy_from_slice(&stamp)).unwrap();
            }
        });
        frame += 1;
        net.run_for(Duration::from_nanos(16_666_667));
        let now = net.now();
        for fact in net.facts(guest) {
            let age = |value: &Bytes| now - Duration::from_nanos(u64::from_le_bytes(value[..8].try_into().unwrap()));
            match fact {
                Fact::Written { value, .. } => ages.written.push(age(&value)),
                Fact::Event { value, .. } => ages.events.push(age(&value)),
                Fact::Closed(reason) => panic!("{reason}"),
                _ => {}
            }
        }
    }
    ages
}

#[test]
fn a_world_that_is_too_much_for_the_path_is_told_less_often_and_never_late() {
    let mut net = SimNet::new(3, narrow(625_000));
    let host = net.enter_led(config(Topology::Host));
    let guest = net.enter_led(config(Topology::Host));
    net.run_for(2 * SECOND);
    // 60 times 60 values of about 40 bytes: 144 kB/s.
    let entities: Vec<NetId> = (0..60).map(|_| net.act(host, |session| session.spawn(None).unwrap())).collect();
    for (rate, each) in [(625_000, 50.0), (125_000, 30.0), (25_000, 4.0), (125_000, 30.0), (625_000, 50.0)] {
        net.set_conditions(narrow(rate));
        let mut at_first = play(&mut net, host, guest, &entities, 3 * SECOND);
        let mut ages = play(&mut net, host, guest, &entities, 17 * SECOND);
        let written = ages.written.len() as f64 / entities.len() as f64 / 17.0;
        let [worst, late] = [Ages::share(&mut at_first.written, 1.0), Ages::share(&mut ages.written, 0.99)];
        let events = Ages::share(&mut ages.events, 0.99);
        println!("{rate}: {written:.1} updates a second, 99 % in {late:?}, events in {events:?}, at first {worst:?}");
        assert!(written >= each, "{written} updates of each entity a second at {rate} B/s");
        assert!(late <= ms(250), "{late:?} at {rate}");
        assert!(events <= ms(300), "{events:?} at {rate}");
        assert!(worst <= ms(750), "{worst:?} at {rate}");
        // No entity starves.
        let newest: Vec<Duration> = entities
            .iter()
            .map(|entity| {
                let value = net.session(guest).value(*entity, POS).unwrap();
                net.now() - Duration::from_nanos(u64::from_le_bytes(value[..8].try_into().unwrap()))
            })
            .collect();
        assert!(newest.iter().all(|age| *age <= ms(900)), "{newest:?}");
    }
}
