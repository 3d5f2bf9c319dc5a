//! What the player asked for: by flags, or in the browser by the page's URL parameters of the same names.

use bevy::{prelude::*, window::WindowPosition};
use bevy_coplay::prelude::*;

/// What the arena is called where games are listed, and which of them play together.
pub const GAME: &str = "coplay arena";
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

const HELP: &str = "arena: a coplay example game

  (none of the next)  a menu: public rooms, quick match, codes; without a window the room 'arena'
  --room NAME         meet in this room, or make it
  --join CODE|NAME    meet in the room with this code, in small letters too, or of this name, if it is there
  --new               make a new room; its code is shown at the top, and in the log
  --quick N           play with the next N-1 players who want that, too
  --public            put the room, if it is made, into the public list
  --password WORD     the room's password
  --topology mesh|host  who decides (default: mesh); the same for all players of a room
  --signaling URL     where to meet (default: ws://127.0.0.1:3536, or the page's own server)
  --name NAME         your name
  --bots N            N ships that play by themselves
  --headless          no window: a host, or a place for bots to live; it asks for the room again while it cannot get in yet
  --offline           alone
  --seconds S         stop after S seconds
  --window WxH+X+Y    size and place of the window";

/// The command line, or the page's URL.
#[derive(Resource, Clone, Debug, Default)]
pub struct Options {
    pub room: Option<String>,
    pub join: Option<String>,
    pub new: bool,
    pub quick: Option<u16>,
    pub public: bool,
    pub password: Option<String>,
    pub host: bool,
    pub signaling: Option<String>,
    pub name: Option<String>,
    pub bots: usize,
    pub headless: bool,
    pub offline: bool,
    pub seconds: Option<f32>,
    pub window: Option<[i32; 4]>,
}

impl Options {
    /// Reads them; explains and exits where they make no sense.
    pub fn from_environment() -> Self {
        Self::parse(arguments()).unwrap_or_else(|problem| {
            // Nobody has set up logging yet.
            #[expect(clippy::print_stderr, reason = "this is the answer to a person at a command line")]
            {
                eprintln!("{problem}\n\n{HELP}");
            }
            std::process::exit(2)
        })
    }

    fn parse(arguments: Vec<(String, String)>) -> Result<Self, String> {
        let mut options = Self::default();
        for (name, value) in arguments {
            let number = || value.parse::<usize>().map_err(|_| format!("--{name} takes a number, not '{value}'"));
            match name.as_str() {
                "room" => options.room = Some(value),
                "join" => options.join = Some(value),
                "new" => options.new = true,
                "quick" => options.quick = Some(number()?.clamp(2, 16) as u16),
                "public" => options.public = true,
                "password" => options.password = Some(value),
                "topology" if value == "host" || value == "mesh" => options.host = value == "host",
                "topology" => return Err(format!("--topology takes host or mesh, not '{value}'")),
                "signaling" => options.signaling = Some(value),
                "name" => options.name = Some(value.chars().take(16).collect()),
                "bots" => options.bots = number()?.min(32),
                "headless" => options.headless = true,
                "offline" => options.offline = true,
                "seconds" => options.seconds = Some(number()? as f32),
                "window" => {
                    let numbers = value.split(['x', '+']).map(str::parse);
                    let numbers = numbers.collect::<Result<Vec<i32>, _>>().unwrap_or_default();
                    let window = numbers.try_into().map_err(|_| format!("--window takes WxH+X+Y, not '{value}'"))?;
                    options.window = Some(window);
                }
                "help" | "h" => return Err(String::new()),
                // A page's URL may carry what is not ours.
                _ if cfg!(target_arch = "wasm32") => {}
                _ => return Err(format!("there is no option --{name}")),
            }
        }
        Ok(options)
    }

    /// How to meet the others.
    pub fn net(&self) -> CoplayPlugins {
        self.join().map_or_else(CoplayPlugins::offline, CoplayPlugins::joining)
    }

    /// The room that was asked for, if one was.
    pub fn join(&self) -> Option<JoinRoom> {
        let join = match (&self.join, &self.room, self.quick) {
            _ if self.offline => return None,
            (Some(code), ..) => JoinRoom::room(code).existing(),
            (_, Some(name), _) => JoinRoom::room(name),
            (.., Some(players)) => JoinRoom::quick_match(players),
            _ if self.new => JoinRoom::new_room(),
            _ if self.headless => JoinRoom::room("arena"),
            _ => return None,
        };
        let join = if self.host { join.host() } else { join.mesh() };
        let join = if self.public { join.public() } else { join };
        let join = match &self.password {
            Some(password) => join.password(password),
            None => join,
        };
        let join = match &self.signaling {
            Some(url) => join.signaling(url),
            None => join,
        };
        Some(join.game(GAME).version(VERSION))
    }

    /// The window, or the page's canvas.
    pub fn window(&self) -> Window {
        let [width, height, x, y] = self.window.unwrap_or([1280, 720, 0, 0]);
        Window {
            title: "coplay arena".into(),
            resolution: (width.unsigned_abs().max(64), height.unsigned_abs().max(64)).into(),
            position: self.window.map_or(WindowPosition::Automatic, |_| WindowPosition::At(IVec2::new(x, y))),
            canvas: Some("#game".into()),
            fit_canvas_to_parent: true,
            ..default()
        }
    }
}

/// Name and value of each argument; flags have an empty value.
#[cfg(not(target_arch = "wasm32"))]
fn arguments() -> Vec<(String, String)> {
    const FLAGS: [&str; 6] = ["new", "public", "headless", "offline", "help", "h"];
    let mut words = std::env::args().skip(1);
    let mut arguments = Vec::new();
    while let Some(word) = words.next() {
        let name = word.trim_start_matches('-').to_owned();
        let value = if FLAGS.contains(&name.as_str()) { String::new() } else { words.next().unwrap_or_default() };
        arguments.push((name, value));
    }
    arguments
}

/// Name and value of each URL parameter.
#[cfg(target_arch = "wasm32")]
fn arguments() -> Vec<(String, String)> {
    let search = web_sys::window().and_then(|window| window.location().search().ok()).unwrap_or_default();
    let Ok(parameters) = web_sys::UrlSearchParams::new_with_str(&search) else { return Vec::new() };
    let entries = js_sys::Array::from(&parameters);
    let pair = |entry| {
        let pair = js_sys::Array::from(&entry);
        Some((pair.get(0).as_string()?, pair.get(1).as_string()?))
    };
    entries.iter().filter_map(pair).collect()
}
