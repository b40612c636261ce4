//! A real Chromium, driven by the W3C WebDriver protocol (<https://www.w3.org/TR/webdriver2/>): a few calls of JSON over HTTP.
//! The Rust clients for it need the crate `webdriver`, whose licence is not among ours, or bring more than they save.

use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const PORT: u16 = 9515;

/// Runs chromedriver in the browser's tree, with a writable layer that vanishes with it.
const ENTER: &str = "set -e
mount -t tmpfs -o mode=0755 tmpfs \"$SCRATCH\"
mkdir \"$SCRATCH/upper\" \"$SCRATCH/work\" \"$SCRATCH/root\"
mount -t overlay -o \"lowerdir=$TREE,upperdir=$SCRATCH/upper,workdir=$SCRATCH/work\" overlay \"$SCRATCH/root\"
mount -t proc proc \"$SCRATCH/root/proc\"
for folder in sys dev; do mount --rbind /$folder \"$SCRATCH/root/$folder\"; done
mount -t tmpfs -o mode=1777 tmpfs \"$SCRATCH/root/tmp\"
echo '127.0.0.1 localhost' > \"$SCRATCH/root/etc/hosts\"
exec chroot \"$SCRATCH/root\" /usr/bin/chromedriver --port=$PORT --log-level=WARNING";

/// chromedriver, ended when dropped.
pub(crate) struct Driver {
    child: Child,
    client: reqwest::Client,
    _scratch: tempfile::TempDir,
}

impl Driver {
    pub(crate) async fn start(tree: &Path) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", ENTER])
            .env("TREE", tree)
            .env("SCRATCH", scratch.path())
            .env("PORT", PORT.to_string())
            .env("HOME", "/tmp")
            .env("LC_ALL", "C.UTF-8")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().unwrap();
        let driver = Self { child, client, _scratch: scratch };
        let end = Instant::now() + Duration::from_secs(30);
        while driver.client.get(url("/status")).send().await.is_err() {
            assert!(Instant::now() < end, "chromedriver does not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        driver
    }

    /// A new browser window; `script` allows JavaScript.
    pub(crate) async fn browser(&self, width: u32, height: u32, script: bool, languages: &str) -> Browser<'_> {
        let arguments = [
            "--headless=new".to_owned(),
            "--no-sandbox".into(),
            "--disable-gpu".into(),
            "--disable-dev-shm-usage".into(),
            "--disable-background-networking".into(),
            "--no-first-run".into(),
            format!("--window-size={width},{height}"),
        ];
        let javascript = if script { 1 } else { 2 };
        let options = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": arguments, "prefs": {
                "profile.managed_default_content_settings.javascript": javascript,
                "intl.accept_languages": languages,
            } },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        } } });
        let made = self.call("POST", "/session", &options).await;
        let session = format!("/session/{}", made["sessionId"].as_str().unwrap());
        let browser = Browser { driver: self, session };
        // The window's own width has a lower bound; this one has none.
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        browser.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
        browser
    }

    async fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let value = self.try_call(method, path, body).await;
        assert!(value.get("error").is_none(), "{method} {path}: {}", value["message"]);
        value
    }

    /// The answer, be it an error.
    async fn try_call(&self, method: &str, path: &str, body: &Value) -> Value {
        let request = match method {
            "GET" => self.client.get(url(path)),
            "DELETE" => self.client.delete(url(path)),
            _ => self.client.post(url(path)).json(body),
        };
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        answer["value"].clone()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn url(path: &str) -> String {
    format!("http://127.0.0.1:{PORT}{path}")
}

/// One window.
pub(crate) struct Browser<'a> {
    driver: &'a Driver,
    session: String,
}

impl Browser<'_> {
    async fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        self.driver.call(method, &format!("{}{path}", self.session), body).await
    }

    pub(crate) async fn open(&self, url: &str) {
        self.call("POST", "/url", &json!({ "url": url })).await;
    }

    /// What a script gives; `return` is part of it.
    pub(crate) async fn script(&self, script: &str) -> Value {
        self.call("POST", "/execute/sync", &json!({ "script": script, "args": [] })).await
    }

    pub(crate) async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.call("POST", "/goog/cdp/execute", &json!({ "cmd": command, "params": parameters })).await
    }

    pub(crate) async fn dark(&self, on: bool) {
        let value = if on { "dark" } else { "light" };
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": value }] });
        self.devtools("Emulation.setEmulatedMedia", features).await;
    }

    /// The document as it stands.
    pub(crate) async fn source(&self) -> String {
        self.call("GET", "/source", &Value::Null).await.as_str().unwrap().to_owned()
    }

    /// What is seen, without markup; nothing while another page is just being loaded.
    pub(crate) async fn text(&self) -> String {
        let body = json!({ "using": "css selector", "value": "body" });
        let body = self.driver.try_call("POST", &format!("{}/element", self.session), &body).await;
        let id = body.get("element-6066-11e4-a52e-4f735466cecf").and_then(Value::as_str).unwrap_or_default();
        let path = format!("{}/element/{id}/text", self.session);
        self.driver.try_call("GET", &path, &Value::Null).await.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until something is seen.
    pub(crate) async fn sees(&self, text: &str) {
        let end = Instant::now() + Duration::from_secs(15);
        loop {
            let seen = self.text().await;
            if seen.contains(text) {
                return;
            }
            assert!(Instant::now() < end, "{text:?} is not seen in:\n{seen}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The whole page as a picture.
    pub(crate) async fn picture(&self, folder: &Path, name: &str) -> PathBuf {
        let shot = self.devtools("Page.captureScreenshot", json!({ "captureBeyondViewport": true })).await;
        let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, shot["data"].as_str().unwrap());
        let path = folder.join(format!("{name}.png"));
        std::fs::write(&path, bytes.unwrap()).unwrap();
        path
    }

    /// Fails when the page is wider than the window, when the browser complained, or when anything was asked of another server.
    pub(crate) async fn is_clean(&self, base: &str, name: &str) {
        let wide = "return [document.documentElement.scrollWidth, window.innerWidth, [...document.querySelectorAll('*')]\
                    .filter(e => e.getBoundingClientRect().right > window.innerWidth + 1).map(e => e.className || e.tagName)]";
        let size = self.script(wide).await;
        assert!(size[0].as_u64() <= size[1].as_u64(), "{name} scrolls sideways: {size}");
        self.log_is_clean(base, name).await;
    }

    /// The same without the script that measures. Gives the number of requests since the last look.
    pub(crate) async fn log_is_clean(&self, base: &str, name: &str) -> usize {
        let console = self.call("POST", "/se/log", &json!({ "type": "browser" })).await;
        assert_eq!(console, json!([]), "{name}: the console is not empty");
        let log = self.call("POST", "/se/log", &json!({ "type": "performance" })).await;
        let mut asked = 0;
        for entry in log.as_array().unwrap() {
            let message: Value = serde_json::from_str(entry["message"].as_str().unwrap()).unwrap();
            let message = &message["message"];
            if message["method"] == "Network.requestWillBeSent" {
                let url = message["params"]["request"]["url"].as_str().unwrap();
                assert!(url.starts_with(base) || url.starts_with("data:"), "{name}: {url} was asked for");
                asked += 1;
            }
        }
        asked
    }

    /// Empties the console: the browser notes an answer with this status there, and nothing else may stand in it.
    pub(crate) async fn log_may_complain(&self, status: u16) {
        let console = self.call("POST", "/se/log", &json!({ "type": "browser" })).await;
        for entry in console.as_array().unwrap() {
            let message = entry["message"].as_str().unwrap();
            assert!(message.contains(&format!("status of {status}")), "{message}");
        }
    }

    pub(crate) async fn close(self) {
        self.call("DELETE", "", &Value::Null).await;
    }
}
