//! The words that kubectl and its credential plugins speak: `ExecCredential` of `client.authentication.k8s.io`.
//! `v1beta1` is the same in what is used here, and all that clients before 1.22 know.

use serde::Deserialize;
use serde_json::json;

use super::id_token::IdToken;
use super::shown;
use crate::config::Environment;

/// Where kubectl says what it wants.
const EXEC_INFO: &str = "KUBERNETES_EXEC_INFO";

/// What kubectl wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum ExecInfo {
    /// `client.authentication.k8s.io/v1`
    #[default]
    V1,
    /// `client.authentication.k8s.io/v1beta1`
    V1Beta1,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    api_version: String,
    kind: String,
}

impl ExecInfo {
    /// Nothing when kubectl is not there. The error says what is wrong.
    pub(super) fn read(environment: &Environment) -> Result<Option<Self>, String> {
        let Some(text) = environment.get(EXEC_INFO).filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let document: Document = serde_json::from_str(text)
            .map_err(|error| format!("{EXEC_INFO} is no ExecCredential: {error}"))?;
        if document.kind != "ExecCredential" {
            return Err(format!("{EXEC_INFO} is no ExecCredential"));
        }
        let known = [Self::V1, Self::V1Beta1];
        let found = known
            .into_iter()
            .find(|info| info.api_version() == document.api_version);
        found.map(Some).ok_or_else(|| {
            format!(
                "kubectl asks in words of {:?}; set the apiVersion of \"exec\" in the kubeconfig to {:?}",
                shown(&document.api_version),
                Self::V1.api_version()
            )
        })
    }

    fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "client.authentication.k8s.io/v1",
            Self::V1Beta1 => "client.authentication.k8s.io/v1beta1",
        }
    }
}

/// The answer, in one line.
pub(super) fn write(info: ExecInfo, token: &IdToken) -> String {
    json!({
        "apiVersion": info.api_version(),
        "kind": "ExecCredential",
        "status": {
            "token": token.token().reveal(),
            "expirationTimestamp": token.expires().to_string(),
        },
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<ExecInfo>, String> {
        ExecInfo::read(&Environment::from([(EXEC_INFO.into(), text.into())]))
    }

    #[test]
    fn kubectl_is_answered_in_its_own_version() {
        let v1 = r#"{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","spec":{"interactive":true}}"#;
        assert_eq!(read(v1), Ok(Some(ExecInfo::V1)));
        assert_eq!(
            read(&v1.replace("/v1", "/v1beta1")),
            Ok(Some(ExecInfo::V1Beta1))
        );
        assert_eq!(read(""), Ok(None));
        let old = read(&v1.replace("/v1", "/v1alpha1")).unwrap_err();
        assert!(old.contains("set the apiVersion"), "{old}");
        for unfit in ["{", "{}", &v1.replace("ExecCredential", "Config")] {
            assert!(read(unfit).is_err(), "{unfit}");
        }
    }
}
