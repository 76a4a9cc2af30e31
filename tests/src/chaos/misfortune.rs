//! What goes wrong, one after the other, by chance.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::broker::Broker;
use super::part::Part;
use crate::dice::Dice;
use crate::testbed::Run;

/// How long everything may take to be at work again.
const PEACE_WITHIN: Duration = Duration::from_secs(180);

/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    GatewayKilled,
    GatewayPaused,
    GatewayStopped,
    RecorderKilled,
    RecorderPaused,
    RecorderStopped,
    BrokerKilled,
    BrokerPaused,
    AllKilled,
}

/// What happens, as often as it stands here. A broker is long at its start, so its end comes less often.
const KINDS: [Kind; 14] = [
    Kind::GatewayKilled,
    Kind::GatewayKilled,
    Kind::GatewayPaused,
    Kind::GatewayStopped,
    Kind::RecorderKilled,
    Kind::RecorderKilled,
    Kind::RecorderKilled,
    Kind::RecorderPaused,
    Kind::RecorderPaused,
    Kind::RecorderStopped,
    Kind::BrokerKilled,
    Kind::BrokerPaused,
    Kind::BrokerPaused,
    Kind::AllKilled,
];

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::GatewayKilled => "gateway killed",
            Self::GatewayPaused => "gateway paused",
            Self::GatewayStopped => "gateway stopped",
            Self::RecorderKilled => "recorder killed",
            Self::RecorderPaused => "recorder paused",
            Self::RecorderStopped => "recorder stopped",
            Self::BrokerKilled => "broker killed",
            Self::BrokerPaused => "broker paused",
            Self::AllKilled => "everything killed at once",
        }
    }
}

/// The parts, and what happens to them.
#[derive(Debug)]
pub(super) struct Misfortunes {
    dice: Dice,
    gateways: Vec<Part>,
    recorders: Vec<Part>,
    broker: Broker,
    counts: BTreeMap<Kind, u32>,
    run: Arc<Run>,
}

impl Misfortunes {
    pub(super) fn new(
        dice: Dice,
        gateways: Vec<Part>,
        recorders: Vec<Part>,
        broker: Broker,
        run: Arc<Run>,
    ) -> Self {
        Self {
            dice,
            gateways,
            recorders,
            broker,
            counts: BTreeMap::new(),
            run,
        }
    }

    pub(super) fn gateways(&self) -> &[Part] {
        &self.gateways
    }

    pub(super) fn recorders(&self) -> &[Part] {
        &self.recorders
    }

    /// What happened how often.
    pub(super) fn counts(&self) -> Vec<(&'static str, u32)> {
        self.counts.iter().map(|(k, n)| (k.name(), *n)).collect()
    }

    /// Waits a while, lets something go wrong, and says what. What was killed is started again, and may fail to, which
    /// is looked after at every step; what was paused goes on.
    pub(super) async fn happen(&mut self) -> Result<String> {
        self.rest(500, 2500).await;
        self.look_after()?;
        let kind = *self.dice.pick(&KINDS);
        *self.counts.entry(kind).or_default() += 1;
        match kind {
            Kind::GatewayKilled | Kind::GatewayPaused | Kind::GatewayStopped => {
                let one = self.dice.between(0, self.gateways.len() as u64);
                self.befall(kind, true, one).await
            }
            Kind::RecorderKilled | Kind::RecorderPaused | Kind::RecorderStopped => {
                let one = self.dice.between(0, self.recorders.len() as u64);
                self.befall(kind, false, one).await
            }
            Kind::BrokerKilled => {
                self.broker.kill();
                self.rest(0, 3000).await;
                self.broker_again()?;
                Ok(kind.name().to_owned())
            }
            Kind::BrokerPaused => {
                self.broker.pause()?;
                let still = self.rest(500, 8000).await;
                self.broker.resume()?;
                Ok(format!("{} for {} ms", kind.name(), still.as_millis()))
            }
            Kind::AllKilled => {
                for part in self.gateways.iter_mut().chain(&mut self.recorders) {
                    part.kill();
                }
                self.broker.kill();
                self.broker_again()?;
                for part in self.gateways.iter_mut().chain(&mut self.recorders) {
                    part.launch()?;
                }
                Ok(kind.name().to_owned())
            }
        }
    }

    async fn befall(&mut self, kind: Kind, gateway: bool, one: u64) -> Result<String> {
        let one = usize::try_from(one)?;
        let (rest_from, rest_to) = match kind {
            Kind::GatewayPaused | Kind::RecorderPaused => (500, 6000),
            _ => (0, 2000),
        };
        let part = match gateway {
            true => &mut self.gateways[one],
            false => &mut self.recorders[one],
        };
        match kind {
            Kind::GatewayPaused | Kind::RecorderPaused => part.pause(),
            // One that is still at its start cannot end in order, so it is left alone.
            Kind::GatewayStopped | Kind::RecorderStopped if part.is_ready()? => {
                tokio::task::block_in_place(|| part.stop())?;
            }
            _ => part.kill(),
        }
        let rest = self.rest(rest_from, rest_to).await;
        let part = match gateway {
            true => &mut self.gateways[one],
            false => &mut self.recorders[one],
        };
        match kind {
            Kind::GatewayPaused | Kind::RecorderPaused => part.resume(),
            _ => part.launch()?,
        }
        Ok(format!(
            "{} {} for {} ms",
            part.label,
            kind.name().split(' ').next_back().unwrap_or_default(),
            rest.as_millis()
        ))
    }

    /// Everything runs again, and is at work.
    pub(super) async fn peace(&mut self) -> Result<()> {
        let begun = Instant::now();
        while !self.look_after()? {
            ensure!(
                begun.elapsed() < PEACE_WITHIN,
                "not everything is at work again"
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Stops everything in order.
    pub(super) fn stop(&mut self) -> Result<()> {
        for part in self.gateways.iter_mut().chain(&mut self.recorders) {
            tokio::task::block_in_place(|| part.stop())?;
        }
        Ok(())
    }

    /// Starts what ended by itself. Returns whether everything is at work.
    fn look_after(&mut self) -> Result<bool> {
        let mut ready = true;
        for part in self.gateways.iter_mut().chain(&mut self.recorders) {
            ready &= part.is_ready()?;
        }
        Ok(ready)
    }

    fn broker_again(&mut self) -> Result<()> {
        tokio::task::block_in_place(|| self.broker.start_again(&self.run))
    }

    async fn rest(&mut self, from_ms: u64, to_ms: u64) -> Duration {
        let rest = Duration::from_millis(self.dice.between(from_ms, to_ms));
        tokio::time::sleep(rest).await;
        rest
    }
}
