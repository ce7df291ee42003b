//! Brokers that do not answer: they come back, and whoever asked asks again.

use std::fmt;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// Nothing came for so long.
#[derive(Debug)]
pub(crate) struct Silent(pub Duration);

impl std::error::Error for Silent {}

impl fmt::Display for Silent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "the broker sent nothing for {:?}", self.0)
    }
}

/// Whether it failed because no broker answers (yet, or any more).
pub fn is_silence(error: &anyhow::Error) -> bool {
    let mut causes = error.chain();
    causes.any(|cause| {
        let code = cause
            .downcast_ref::<KafkaError>()
            .and_then(KafkaError::rdkafka_error_code);
        cause.is::<Silent>() || code.is_some_and(|code| is_of_silence(&code))
    })
}

fn is_of_silence(code: &RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::OperationTimedOut
            | RDKafkaErrorCode::RequestTimedOut
            | RDKafkaErrorCode::TimedOutQueue
            | RDKafkaErrorCode::NetworkException
            | RDKafkaErrorCode::LeaderNotAvailable
            | RDKafkaErrorCode::NotLeaderForPartition
            | RDKafkaErrorCode::BrokerNotAvailable
    )
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn silence_is_heard_through_what_was_said_about_it() {
        let silent: anyhow::Result<()> = Err(Silent(Duration::from_secs(30)).into());
        assert!(is_silence(
            &silent.context("cannot read t[0] at offset 5").unwrap_err()
        ));
        let fetched = |code| anyhow::Error::from(KafkaError::MetadataFetch(code)).context("cannot ask");
        assert!(is_silence(&fetched(RDKafkaErrorCode::BrokerTransportFailure)));
        assert!(!is_silence(&fetched(RDKafkaErrorCode::TopicAuthorizationFailed)));
        assert!(!is_silence(&anyhow::anyhow!("t does not exist")));
    }
}
