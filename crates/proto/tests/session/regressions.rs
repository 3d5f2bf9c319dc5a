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

#[test]
fn all_meet_whoever_comes_as_the_leader_goes() {
    let ops = [
        Op::Leave { peer: 144 },
        Op::Send { peer: 91, to: 213 },
        Op::Send { peer: 413, to: 117 },
        Op::Enter,
        Op::Run { millis: 106 },
    ];
    let path = path(26, 23, 0.125_248_823_905_284_13, 0.0, 0.082_208_345_391_347_29);
    play(Topology::Mesh, 3, path, 817_776_764_060_267_738, &ops);
}

#[test]
fn who_gave_an_entity_away_is_not_taken_for_a_forger() {
    let ops = [
        Op::Run { millis: 191 },
        Op::Run { millis: 377 },
        Op::Spawn { peer: 46, controller: 0 },
        Op::Run { millis: 100 },
        Op::Grant { peer: 445, entity: 0, to: 245 },
        Op::Run { millis: 6 },
        Op::Run { millis: 111 },
        Op::Send { peer: 954, to: 930 },
        Op::Spawn { peer: 0, controller: 0 },
        Op::Send { peer: 333, to: 126 },
        Op::Send { peer: 0, to: 0 },
        Op::Spawn { peer: 0, controller: 0 },
        Op::Grant { peer: 8, entity: 0, to: 0 },
        Op::Send { peer: 53, to: 0 },
        Op::Run { millis: 15 },
        Op::Leave { peer: 631 },
        Op::Run { millis: 8 },
    ];
    let path = path(7, 0, 0.136_076_856_154_821_38, 0.0, 0.0);
    play(Topology::Host, 3, path, 4_298_016_732_646_009_343, &ops);
}

#[test]
fn an_entity_given_twice_under_loss_stays_whole() {
    let ops = [
        Op::Spawn { peer: 941, controller: 0 },
        Op::Run { millis: 1 },
        Op::Grant { peer: 189, entity: 0, to: 446 },
        Op::Run { millis: 82 },
        Op::Send { peer: 86, to: 78 },
        Op::Run { millis: 147 },
        Op::Run { millis: 97 },
        Op::Run { millis: 261 },
        Op::Enter,
        Op::Run { millis: 97 },
        Op::Grant { peer: 317, entity: 0, to: 388 },
    ];
    let path = path(59, 21, 0.093_342_369_616_633_31, 0.0, 0.045_756_839_631_651_46);
    play(Topology::Mesh, 4, path, 15_979_116_188_376_027_085, &ops);
}

#[test]
fn who_names_itself_controller_of_what_it_gives_away_may_send_input() {
    let ops = [
        Op::Spawn { peer: 985, controller: 2 },
        Op::Enter,
        Op::Run { millis: 8 },
        Op::Control { peer: 361, entity: 0, controller: 366 },
        Op::Grant { peer: 266, entity: 0, to: 227 },
        Op::Input { peer: 391, entity: 0, number: 0 },
    ];
    play(Topology::Host, 4, Conditions::PERFECT, 0, &ops);
}

/// It is given to a member that leaves, while another sends an event about it to the one who gave it: who owns it, as
/// far as the sender knows, so that there is nothing to wait for.
#[test]
fn an_event_about_what_its_receiver_gave_away_is_not_held_up() {
    let ops = [
        Op::Spawn { peer: 63, controller: 0 },
        Op::Run { millis: 10 },
        Op::Spawn { peer: 270, controller: 0 },
        Op::Spawn { peer: 588, controller: 0 },
        Op::Spawn { peer: 273, controller: 0 },
        Op::Run { millis: 66 },
        Op::Grant { peer: 54, entity: 87, to: 788 },
        Op::Send { peer: 472, to: 846 },
        Op::Leave { peer: 473 },
    ];
    let path = path(50, 7, 0.168_270_935_352_046_15, 0.085_109_212_951_344_27, 0.088_654_418_312_836_78);
    play(Topology::Mesh, 3, path, 10_331_839_174_918_683_413, &ops);
}

/// A leader dies just as it has let somebody in, of whom the next one has not heard: it comes in anew, and what it says
/// from the seat that it has given up is not taken for what it says from the next.
#[test]
fn a_seat_that_the_next_leader_has_not_heard_of_is_not_given_again() {
    let ops = [
        Op::Spawn { peer: 348, controller: 0 },
        Op::Spawn { peer: 709, controller: 0 },
        Op::Run { millis: 169 },
        Op::Kill { peer: 684 },
        Op::Spawn { peer: 0, controller: 0 },
        Op::Spawn { peer: 19, controller: 0 },
        Op::Enter,
    ];
    let path = path(47, 4, 0.147_656_397_380_613_45, 0.038_563_562_207_010_38, 0.048_477_354_540_525_916);
    play(Topology::Mesh, 3, path, 1_004_500_849_346_085_848, &ops);
}

fn play(topology: Topology, peers: usize, path: Conditions, seed: u64, ops: &[Op]) {
    let mut game = Game::new(topology, peers, path, seed);
    game.play(ops);
    game.check();
}
