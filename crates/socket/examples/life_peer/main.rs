//! A peer of `cargo xtask life`, native or in a page: plays the game of `tests/life` with whoever is in the room.
//!
//! Natively it takes the room's URL, and orders by its standard input. A page draws nothing, but has a frame when a game
//! there has one: none while its tab is hidden.

#[path = "../../tests/life/game.rs"]
mod game;

#[cfg(not(target_arch = "wasm32"))]
fn main() {
    let url = std::env::args().nth(1).expect("the URL of a room");
    game::run(coplay_socket::SocketConfig::new(url));
}

#[cfg(target_arch = "wasm32")]
fn main() {
    page::give();
}

#[cfg(target_arch = "wasm32")]
mod page {
    use std::{cell::RefCell, rc::Rc};

    use coplay_socket::SocketConfig;
    use js_sys::{Function, Reflect, global};
    use wasm_bindgen::{JsCast, JsValue, closure::Closure};

    use super::game::Game;

    /// Gives the page `enter(url)`, `turn()`, which is one frame, and `obey(order)`. Of the page, `say(what)` is wanted.
    pub(crate) fn give() {
        let game = Rc::new(RefCell::new(None::<Game>));
        let (entered, turned) = (game.clone(), game.clone());
        let enter = Closure::<dyn Fn(String)>::new(move |url: String| {
            entered.replace(Some(Game::new(SocketConfig::new(url), say)));
        });
        let turn = Closure::<dyn Fn()>::new(move || turned.borrow_mut().iter_mut().for_each(Game::turn));
        let obey = Closure::<dyn Fn(String)>::new(move |order: String| {
            game.borrow_mut().iter_mut().for_each(|game| game.obey(&order));
        });
        for (name, function) in
            [("enter", enter.into_js_value()), ("turn", turn.into_js_value()), ("obey", obey.into_js_value())]
        {
            Reflect::set(&global(), &name.into(), &function).expect("it is an object");
        }
    }

    fn say(what: &str) {
        let say = Reflect::get(&global(), &"say".into()).map(JsCast::unchecked_into::<Function>);
        say.and_then(|say| say.call1(&JsValue::NULL, &what.into())).expect("the page has it");
    }
}
