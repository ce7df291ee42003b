//! `[[channel]]`: whom to tell, with secrets from files or the environment.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use cambium_notify::{Channel, Kind, Language};
use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    pub name: String,
    kind: KindName,
    url: Option<String>,
    url_file: Option<String>,
    url_env: Option<String>,
    secret_file: Option<String>,
    secret_env: Option<String>,
    from: Option<String>,
    #[serde(default)]
    to: Vec<String>,
    #[serde(default)]
    language: Language,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KindName {
    Webhook,
    Slack,
    Feishu,
    DingTalk,
    WeCom,
    PagerDuty,
    Email,
    Alertmanager,
}

impl Written {
    /// Whether the keys fit together.
    pub fn check(&self) -> Result<()> {
        let urls = [&self.url, &self.url_file, &self.url_env];
        match urls.into_iter().flatten().count() {
            0 if self.kind != KindName::PagerDuty => bail!("it needs url, url_file or url_env"),
            0 | 1 => {}
            _ => bail!("one of url, url_file and url_env is enough"),
        }
        let has_secret = self.secret_file.is_some() || self.secret_env.is_some();
        if self.kind == KindName::PagerDuty && !has_secret {
            bail!("PagerDuty needs its routing key in secret_file or secret_env");
        }
        if (self.kind == KindName::Email) != (self.from.is_some() && !self.to.is_empty()) {
            bail!("from and to are of kind = \"email\", which needs both");
        }
        Ok(())
    }

    /// The channel, with what its files and variables hold now.
    pub fn open(&self, directory: &Path) -> Result<Channel> {
        let file = |name: &Option<String>| -> Result<Option<String>> {
            let Some(name) = name else { return Ok(None) };
            let path = directory.join(name);
            let text =
                std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            Ok(Some(text.trim().to_owned()))
        };
        let variable = |name: &Option<String>| -> Result<Option<String>> {
            let Some(name) = name else { return Ok(None) };
            let value = std::env::var(name).map_err(|error| anyhow!("the variable {name}: {error}"))?;
            Ok(Some(value.trim().to_owned()))
        };
        let url = match (&self.url, file(&self.url_file)?, variable(&self.url_env)?) {
            (Some(url), ..) => url.clone(),
            (None, Some(url), _) | (None, None, Some(url)) => url,
            _ => String::new(),
        };
        let kind = match self.kind {
            KindName::Webhook => Kind::Webhook,
            KindName::Slack => Kind::Slack,
            KindName::Feishu => Kind::Feishu,
            KindName::DingTalk => Kind::DingTalk,
            KindName::WeCom => Kind::WeCom,
            KindName::PagerDuty => Kind::PagerDuty,
            KindName::Alertmanager => Kind::Alertmanager,
            KindName::Email => Kind::Email {
                from: self.from.clone().unwrap_or_default(),
                to: self.to.clone(),
            },
        };
        Ok(Channel {
            name: self.name.clone(),
            kind,
            url,
            secret: file(&self.secret_file)?.or(variable(&self.secret_env)?),
            language: self.language,
        })
    }
}
