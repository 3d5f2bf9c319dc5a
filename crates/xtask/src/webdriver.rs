//! How a page is driven as a person would: by a `WebDriver` (W3C), which types and reads for us.

use std::{
    net::TcpListener,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    browser,
    run::{Result, Running},
    tools,
};

/// How long the driver may take to start, and a page to come to what is waited for, software rendering included.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often it is looked.
const PAUSE: Duration = Duration::from_millis(150);
/// The code points that stand for keys (`WebDriver`, section 17.4.2).
pub(crate) const ENTER: &str = "\u{e007}";
pub(crate) const TAB: &str = "\u{e004}";
pub(crate) const DOWN: &str = "\u{e015}";

/// A driver of Chromium, which ends with this.
pub(crate) struct Driver {
    url: String,
    agent: ureq::Agent,
    process: Running,
}

/// A tab in front of a page's.
pub(crate) struct Front {
    /// The handle of what is behind it.
    this: Value,
}

/// A page in a browser of its own.
pub(crate) struct Page<'a> {
    driver: &'a Driver,
    name: String,
    session: String,
}

impl Driver {
    /// Starts one; what it logs goes to `place`.
    pub(crate) fn start(place: &Path) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = port.map_err(|error| format!("no port for the driver: {error}"))?.port();
        let mut command = Command::new(tools::chromedriver()?);
        command.arg(format!("--port={port}"));
        let process = Running::start("chromedriver", &mut command, Some(&place.join("chromedriver.log")))?;
        let agent = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).build();
        let mut driver = Self { url: format!("http://127.0.0.1:{port}"), agent: agent.into(), process };
        let start = Instant::now();
        while driver.get("/status").is_err() {
            driver.process.check()?;
            if start.elapsed() > PATIENCE {
                return Err(format!("the driver does not answer{}", driver.process.last_words()));
            }
            std::thread::sleep(PAUSE);
        }
        Ok(driver)
    }

    /// Opens a page in a new browser, headless, as a new person.
    pub(crate) fn open(&self, name: &str, url: &str, place: &Path) -> Result<Page<'_>> {
        self.open_without(&[], name, url, place)
    }

    /// The same in a browser that holds pages back which nobody looks at, as people's browsers do.
    pub(crate) fn open_drowsy(&self, name: &str, url: &str, place: &Path) -> Result<Page<'_>> {
        self.open_without(&browser::AWAKE, name, url, place)
    }

    fn open_without(&self, unwanted: &[&str], name: &str, url: &str, place: &Path) -> Result<Page<'_>> {
        let profile = browser::new_profile(name, place)?;
        // Small: where software draws, that is most of what it takes.
        let more = ["--headless", "--window-size=480,320"].map(str::to_owned);
        let more = more.into_iter().chain([format!("--user-data-dir={}", profile.display())]);
        let flags = browser::FLAGS.iter().filter(|flag| !unwanted.contains(flag));
        let arguments: Vec<_> = flags.map(ToString::to_string).chain(more).collect();
        // Nor does the driver say what is not wanted.
        let excluded: Vec<_> = unwanted.iter().map(|flag| flag.trim_start_matches('-')).collect();
        let options = json!({ "args": arguments, "excludeSwitches": excluded, "binary": tools::chromium()? });
        let capabilities = json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": options } } });
        let value = self.post("/session", &capabilities)?;
        let session = value["sessionId"].as_str().ok_or_else(|| format!("no session: {value}"))?.to_owned();
        let page = Page { driver: self, name: name.to_owned(), session };
        page.post("/url", &json!({ "url": url }))?;
        Ok(page)
    }

    fn get(&self, path: &str) -> Result<Value> {
        let answer = self.agent.get(format!("{}{path}", self.url)).call();
        value(answer.map_err(|error| error.to_string())?)
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let answer = self.agent.post(format!("{}{path}", self.url)).send_json(body);
        value(answer.map_err(|error| error.to_string())?)
    }
}

/// What the driver answers, or why it did not do it.
fn value(mut answer: ureq::http::Response<ureq::Body>) -> Result<Value> {
    let mut json: Value = answer.body_mut().read_json().map_err(|error| error.to_string())?;
    let value = json["value"].take();
    match value["error"].as_str() {
        Some(error) => Err(format!("the driver says {error}: {}", value["message"].as_str().unwrap_or_default())),
        None => Ok(value),
    }
}

impl Page<'_> {
    /// Presses keys one after the other, in whatever has the focus.
    pub(crate) fn press(&self, keys: &str) -> Result {
        let actions: Vec<_> = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key.to_string() })))
            .collect();
        let actions = json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": actions }] });
        self.post("/actions", &actions).map(drop)
    }

    /// What JavaScript says.
    pub(crate) fn run(&self, script: &str) -> Result<Value> {
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Opens another tab in front of it. Until that is closed, this one cannot be asked for anything: the driver shows what
    /// it speaks with.
    pub(crate) fn hide(&self) -> Result<Front> {
        let this = self.driver.get(&format!("/session/{}/window", self.session))?;
        let other = self.post("/window/new", &json!({ "type": "tab" }))?;
        self.post("/window", &json!({ "handle": other["handle"] }))?;
        self.post("/url", &json!({ "url": "about:blank" }))?;
        Ok(Front { this })
    }

    /// Closes the tab in front of it.
    pub(crate) fn show(&self, front: &Front) -> Result {
        self.close()?;
        self.post("/window", &json!({ "handle": front.this })).map(drop)
    }

    /// Closes the tab, as by its cross.
    pub(crate) fn close(&self) -> Result {
        let answer = self.driver.agent.delete(format!("{}/session/{}/window", self.driver.url, self.session)).call();
        value(answer.map_err(|error| format!("the page of {}: {error}", self.name))?).map(drop)
    }

    /// What is read out to who cannot see the page.
    pub(crate) fn spoken(&self) -> Result<String> {
        let text = self.run("return document.getElementById('spoken')?.textContent ?? ''")?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// Waits until that has all of these words in it, and returns it.
    pub(crate) fn until_spoken(&self, words: &[&str]) -> Result<String> {
        self.until(&format!("say {words:?}"), |text| words.iter().all(|word| text.contains(word)))
    }

    /// Waits until that does not have this word in it any more.
    pub(crate) fn until_unspoken(&self, word: &str) -> Result {
        self.until(&format!("stop to say {word:?}"), |text| !text.contains(word)).map(drop)
    }

    /// Waits until it is something else than this, and returns it.
    pub(crate) fn until_not(&self, said: &str) -> Result<String> {
        self.until("say anything else", |text| text != said)
    }

    fn until(&self, what: &str, is_so: impl Fn(&str) -> bool) -> Result<String> {
        let start = Instant::now();
        loop {
            let text = self.spoken()?;
            if is_so(&text) {
                return Ok(text);
            }
            if start.elapsed() > PATIENCE {
                return Err(format!("the page of {} does not {what} within {PATIENCE:?}:\n{text}", self.name));
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let told = self.driver.post(&format!("/session/{}{path}", self.session), body);
        told.map_err(|error| format!("the page of {}: {error}", self.name))
    }
}

impl Drop for Page<'_> {
    fn drop(&mut self) {
        // The driver closes it at the latest when it ends.
        let _ = self.driver.agent.delete(format!("{}/session/{}", self.driver.url, self.session)).call();
    }
}
