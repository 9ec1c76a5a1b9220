//! A whole mock world: components, each an upstream behind a gate of its own.

use std::io;

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::gate::{Gate, GateMode};
use crate::profile::{Profile, TimingKind};
use crate::record::Recorder;
use crate::time::Epoch;
use crate::upstream::{ComponentOptions, Dialect, Sink, Upstream};

/// What a world is made of.
#[derive(Debug, Clone)]
pub struct WorldOptions {
    /// The clock of the records.
    pub epoch: Epoch,
    /// Fixes every draw of the world: the same requests in the same order get the same times.
    pub seed: u64,
    /// How fast the models are.
    pub profile: Profile,
    /// The components, with unique names.
    pub components: Vec<ComponentOptions>,
}

impl WorldOptions {
    /// The five models of the household: three in the `cloud`, one on the GPU (`vllm`), one on the CPU (`ollama`).
    #[must_use]
    pub fn five_aliases(epoch: Epoch, seed: u64, profile: Profile) -> Self {
        let component = |name: &str, dialect, timing, models: &[&str]| ComponentOptions {
            name: name.to_owned(),
            dialect,
            timing,
            models: models.iter().map(|model| (*model).to_owned()).collect(),
        };
        let cloud = ["kimi-k2.5", "minimax-m2.5", "qwen3-coder:480b"];
        let components = vec![
            component("cloud", Dialect::Ollama, TimingKind::Cloud, &cloud),
            component("vllm", Dialect::OpenAi, TimingKind::Vllm, &["Qwen3"]),
            component("ollama", Dialect::Ollama, TimingKind::Ollama, &["phi4-mini"]),
        ];
        Self { epoch, seed, profile, components }
    }
}

/// Why a world was not changed.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// No component has this name.
    #[error("there is no component `{component}`")]
    UnknownComponent {
        /// The name that was asked for.
        component: String,
    },
    /// The component has no such model.
    #[error("component `{component}` has no model `{model}`")]
    UnknownModel {
        /// The component that was asked for.
        component: String,
        /// The model that it does not have.
        model: String,
    },
    /// The component's gate could not be switched.
    #[error("the gate of `{component}` could not be set")]
    Gate {
        /// The component whose gate it is.
        component: String,
        /// What the operating system said.
        source: io::Error,
    },
}

/// How a component stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentState {
    /// The component's name.
    pub name: String,
    /// The API that it speaks.
    pub dialect: Dialect,
    /// The base URL of its gate, without a path.
    pub base_url: String,
    /// What its gate does.
    pub mode: GateMode,
    /// All its models.
    pub models: Vec<String>,
    /// Those that are not found at present.
    pub gone: Vec<String>,
}

/// A running mock world. Dropping it ends all its tasks soon; [`World::shutdown`] waits for that.
#[derive(Debug)]
pub struct World {
    epoch: Epoch,
    recorder: Recorder,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    upstream: Upstream,
    gate: Gate,
    /// Held through a switch, so that the mode before it is known for sure.
    switching: Mutex<()>,
}

impl World {
    /// Starts all components with their gates passing.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if two components share a name; else whatever the operating system says when no port can be
    /// bound.
    pub async fn start(options: WorldOptions) -> io::Result<Self> {
        let WorldOptions { epoch, seed, profile, components } = options;
        let recorder = Recorder::new(epoch);
        let mut world = Self { epoch, recorder: recorder.clone(), members: Vec::new() };
        for (stream, component) in (0_u64..).zip(components) {
            if world.member(&component.name).is_ok() {
                let message = format!("two components are named `{}`", component.name);
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
            let upstream = Upstream::start(component, &profile, seed, stream, recorder.clone()).await?;
            let gate = Gate::start(upstream.address()).await?;
            world.members.push(Member { upstream, gate, switching: Mutex::new(()) });
        }
        Ok(world)
    }

    /// The clock of the records.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What the upstreams were asked.
    #[must_use]
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// The gate of this component. Prefer [`World::set`] for switching it: that also restarts the component.
    #[must_use]
    pub fn gate(&self, component: &str) -> Option<&Gate> {
        self.member(component).ok().map(|member| &member.gate)
    }

    /// `http://127.0.0.1:PORT` of this component's gate.
    #[must_use]
    pub fn base_url(&self, component: &str) -> Option<String> {
        self.member(component).ok().map(Member::base_url)
    }

    /// Switches a component's gate and returns once the mode is in effect. `refuse` stands for a process that
    /// ended, so a component that comes back from it has its models to load again.
    ///
    /// # Errors
    ///
    /// [`WorldError::UnknownComponent`], [`WorldError::Gate`].
    pub async fn set(&self, component: &str, mode: GateMode) -> Result<(), WorldError> {
        let member = self.member(component)?;
        let _switching = member.switching.lock().await;
        let before = member.gate.mode();
        if before == GateMode::Refuse && mode != GateMode::Refuse {
            member.upstream.restart();
        }
        let switched = member.gate.set(mode).await;
        if before != GateMode::Refuse && mode == GateMode::Refuse {
            member.upstream.restart();
        }
        switched.map_err(|source| WorldError::Gate { component: component.to_owned(), source })
    }

    /// From now on exactly these models of a component are not found.
    ///
    /// # Errors
    ///
    /// [`WorldError::UnknownComponent`], [`WorldError::UnknownModel`]; nothing is changed then.
    pub fn set_gone(&self, component: &str, models: Vec<String>) -> Result<(), WorldError> {
        let member = self.member(component)?;
        if let Some(model) = models.iter().find(|model| !member.upstream.options().models.contains(model)) {
            return Err(WorldError::UnknownModel { component: component.to_owned(), model: model.clone() });
        }
        member.upstream.set_gone(models);
        Ok(())
    }

    /// Lets all gates pass and brings all models back.
    ///
    /// # Errors
    ///
    /// [`WorldError::Gate`] with the first gate that failed; the others are reset all the same.
    pub async fn reset(&self) -> Result<(), WorldError> {
        let mut outcome = Ok(());
        for member in &self.members {
            member.upstream.set_gone(Vec::new());
            outcome = outcome.and(self.set(&member.upstream.options().name, GateMode::Pass).await);
        }
        outcome
    }

    /// From now on this takes the access lines of a component, as its real server writes them.
    ///
    /// # Errors
    ///
    /// [`WorldError::UnknownComponent`].
    pub fn log_to(&self, component: &str, sink: Sink) -> Result<(), WorldError> {
        self.member(component)?.upstream.log_to(sink);
        Ok(())
    }

    /// How all components stand, in the order of the options.
    #[must_use]
    pub fn states(&self) -> Vec<ComponentState> {
        self.members.iter().map(Member::state).collect()
    }

    /// Ends all connections, gives up all ports and waits for the last task. Calling it again does nothing.
    pub async fn shutdown(&self) {
        for member in &self.members {
            member.gate.shutdown().await;
            member.upstream.shutdown().await;
        }
    }

    fn member(&self, component: &str) -> Result<&Member, WorldError> {
        let found = self.members.iter().find(|member| member.upstream.options().name == component);
        found.ok_or_else(|| WorldError::UnknownComponent { component: component.to_owned() })
    }
}

impl Member {
    fn base_url(&self) -> String {
        format!("http://{}", self.gate.address())
    }

    fn state(&self) -> ComponentState {
        let options = self.upstream.options();
        ComponentState {
            name: options.name.clone(),
            dialect: options.dialect,
            base_url: self.base_url(),
            mode: self.gate.mode(),
            models: options.models.clone(),
            gone: self.upstream.gone(),
        }
    }
}
