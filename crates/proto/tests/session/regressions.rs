//! What the properties once found, kept as it was found: each game is the smallest one that went wrong.

use std::time::Duration;

use coplay_proto::{Topology, conditioner::Conditions};

use crate::game::{Game, Op};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn path(latency: u64, jitter: u64, loss: f64, duplication: f64, reordering: f64) -> Conditions {
    let (latency, jitter) = (Duration::from_millis(latency), Duration::from_millis(jitter));
    Conditions { latency, jitter, loss, duplication, reordering, ..Conditions::PERFECT }
}

/// A leader leaves just as it has let somebody in, whom the next one has not heard of: it comes in anew, and another
/// member sends to the seat that it no longer has.
#[test]
fn an_event_for_a_seat_that_is_given_up_is_not_for_the_next() {
    let ops = [
        Op::Enter,
        Op::Run { millis: 105 },
        Op::Spawn { peer: 0, controller: 0 },
        Op::Leave { peer: 104 },
        Op::Run { millis: 163 },
        Op::Send { peer: 532, to: 213 },
    ];
    let path = path(38, 12, 0.107_378_973_882_073_2, 0.085_820_835_908_358_69, 0.0);
    play(Topology::Mesh, 3, path, 9_427_997_232_289_019_660, &ops);
}

/// What a host says of an entity before and after it is given away comes the other way round.
#[test]
fn values_are_not_lost_where_a_gift_overtakes_them() {
    let ops = [
        Op::Run { millis: 151 },
        Op::Spawn { peer: 221, controller: 584 },
        Op::Send { peer: 0, to: 93 },
        Op::Spawn { peer: 203, controller: 0 },
        Op::Write { peer: 44, entity: 14, component: 0, number: 0 },
        Op::Run { millis: 398 },
        Op::Run { millis: 148 },
        Op::Input { peer: 569, entity: 0, number: 0 },
        Op::Spawn { peer: 485, controller: 0 },
        Op::Run { millis: 67 },
        Op::Grant { peer: 827, entity: 294, to: 27 },
        Op::Send { peer: 113, to: 0 },
        Op::Send { peer: 452, to: 0 },
        Op::Enter,
        Op::Run { millis: 144 },
    ];
    let path = path(52, 6, 0.171_824_544_754_462_54, 0.0, 0.015_833_083_747_397_468);
    play(Topology::Host, 3, path, 8_425_263_682_538_953_921, &ops);
}

#[test]
fn the_last_values_before_a_gift_are_not_lost() {
    let ops = [
        Op::Send { peer: 115, to: 3 },
        Op::Spawn { peer: 243, controller: 0 },
        Op::Spawn { peer: 141, controller: 0 },
        Op::Send { peer: 141, to: 497 },
        Op::Send { peer: 42, to: 3 },
        Op::Run { millis: 291 },
        Op::Send { peer: 750, to: 0 },
        Op::Run { millis: 111 },
        Op::Write { peer: 19, entity: 0, component: 0, number: 0 },
        Op::Run { millis: 173 },
        Op::Write { peer: 0, entity: 0, component: 0, number: 0 },
        Op::Write { peer: 84, entity: 0, component: 0, number: 0 },
        Op::Send { peer: 264, to: 150 },
        Op::Spawn { peer: 470, controller: 0 },
        Op::Run { millis: 93 },
        Op::Control { peer: 0, entity: 0, controller: 0 },
        Op::Write { peer: 589, entity: 0, component: 0, number: 0 },
        Op::Run { millis: 122 },
        Op::Run { millis: 124 },
        Op::Run { millis: 275 },
        Op::Write { peer: 69, entity: 0, component: 0, number: 1 },
        Op::Run { millis: 77 },
        Op::Grant { peer: 133, entity: 0, to: 326 },
    ];
    let path = path(60, 23, 0.082_687_877_674_923_26, 0.090_940_463_825_792_4, 0.046_241_352_154_488_415);
    play(Topology::Host, 4, path, 16_575_668_225_814_665_801, &ops);
}

fn play(topology: Topology, peers: usize, path: Conditions, seed: u64, ops: &[Op]) {
    let mut game = Game::new(topology, peers, path, seed);
    game.play(ops);
    game.check();
}
