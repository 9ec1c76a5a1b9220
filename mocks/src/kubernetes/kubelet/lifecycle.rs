//! The life of one pod, from its node to its end.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::packet_filter;
use super::program::Program;
use super::status::{self, Container};
use super::{Kubelet, Running, Workload};
use crate::kubernetes::clock::to_seconds;
use crate::kubernetes::controllers::events::{note, warn};
use crate::kubernetes::controllers::objects::{controller_of, is_ending, meta, status_mut};
use crate::kubernetes::controllers::reconcile::subscribe;
use crate::kubernetes::network::range::Part;
use crate::kubernetes::resources::{PODS, REPLICA_SETS};
use crate::kubernetes::store::{Deletion, ObjectKey, Store, Subscription, Writer};

const MANAGER: &str = "kubelet";
/// Images of this registry can never be pulled; the name is reserved for that.
const NO_REGISTRY: &str = "registry.invalid/";
/// How long after a pod's port could not be bound it is tried again.
const BIND_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// How long after a pod's volumes were not there its container is tried again.
const START_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// What to do next about a pod.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    /// It is to end, within so many seconds.
    End(u64),
    /// Its object is gone.
    Vanish,
}

pub(super) struct Lifecycle {
    kubelet: Kubelet,
    key: ObjectKey,
    uid: String,
    changes: Subscription,
    /// Statuses of the ephemeral containers that were taken up.
    ephemeral: Vec<Value>,
    tables: packet_filter::Tables,
}

impl Lifecycle {
    pub(super) fn new(kubelet: Kubelet, pod: &Value) -> Self {
        let key = ObjectKey::new(&PODS, meta(pod, "namespace"), meta(pod, "name"));
        let changes = subscribe(kubelet.store());
        let uid = meta(pod, "uid").to_owned();
        Self { kubelet, key, uid, changes, ephemeral: Vec::new(), tables: packet_filter::Tables::default() }
    }

    /// Goes through it all, until the pod's end or the kubelet's.
    pub(super) async fn live(mut self) {
        let end = self.kubelet.inner.end.clone();
        let life = CancellationToken::new();
        tokio::select! {
            () = end.cancelled() => {}
            () = self.go(&life) => {}
        }
        life.cancel();
        self.kubelet.running().remove(&self.uid);
        self.kubelet.inner.logs.close(&self.uid, self.kubelet.store().get(&self.key).is_some());
    }

    async fn go(&mut self, life: &CancellationToken) {
        self.place();
        let timing = self.kubelet.inner.parts.timing;
        if self.unless_asked(sleep(timing.start_after)).await.is_some() {
            return self.delete();
        }
        let Some(pod) = self.pod() else { return };
        let started = to_seconds(self.kubelet.store().clock().now());
        let mut containers = pod["spec"]["containers"].as_array().into_iter().flatten();
        if containers.any(|one| one["image"].as_str().is_some_and(|image| image.starts_with(NO_REGISTRY))) {
            warn(self.kubelet.store(), &pod, "Failed", "Error: ImagePullBackOff", MANAGER);
            self.write(Container::Pulling, &started);
            let _asked = self.asked().await;
            return self.delete();
        }
        let workload = self.kubelet.workload_of(&pod);
        let Some(ip) = self.start_container(&pod, workload.as_ref(), life, &started).await else {
            return self.delete();
        };
        let is_of_job = controller_of(&pod).is_some_and(|owner| owner["kind"] == "Job");
        if is_of_job && pod["spec"]["restartPolicy"] != "Always" {
            if let Some(program) = self.kubelet.program_of(&pod) {
                self.run_program(&program, &pod, &started).await;
                self.stop(ip, life).await;
                let _asked = self.asked().await;
                return self.delete();
            }
            self.write(Container::Ready, &started);
            if self.unless_asked(sleep(timing.job_runs)).await.is_none() {
                self.write(Container::Ended(0), &started);
                self.stop(ip, life).await;
                let _asked = self.asked().await;
                return self.delete();
            }
            self.stop(ip, life).await;
            return self.delete();
        }
        let ready_after = workload.as_ref().and_then(|workload| workload.ready_after);
        let asked = match self.unless_asked(sleep(ready_after.unwrap_or(timing.ready_after))).await {
            Some(asked) => asked,
            None => self.serve(&pod, ip, workload.as_ref(), &started).await,
        };
        if let Asked::End(grace) = asked {
            note(self.kubelet.store(), &pod, "Killing", "Stopping container", MANAGER);
            self.kubelet.log_all(&pod, "Shutting down");
            let exits = timing.exit_after.min(Duration::from_secs(grace));
            tokio::select! {
                () = sleep(exits) => {}
                () = self.vanished() => {}
            }
        }
        let served = self.kubelet.running().get(&self.uid).is_some_and(|running| running.serves);
        self.stop(ip, life).await;
        if let Some(workload) = workload.filter(|_| served) {
            self.kubelet.count(&workload, false).await;
        }
        self.write(Container::Ended(0), &started);
        self.delete();
    }

    /// Runs the process of a Job's pod to its end. A pod that is asked to end has its grace period.
    async fn run_program(&mut self, program: &Program, pod: &Value, started: &str) {
        let mut process = loop {
            let why = match program.start(&self.kubelet, pod) {
                Ok(process) => break process,
                Err(why) => why,
            };
            let told = format!("the container cannot be started: {why}");
            warn(self.kubelet.store(), pod, "FailedMount", &told, MANAGER);
            if self.unless_asked(sleep(START_AGAIN_AFTER)).await.is_some() {
                return;
            }
        };
        self.write(Container::Ready, started);
        let ended = tokio::select! {
            code = process.ended() => Ok(code),
            asked = self.asked() => Err(asked),
        };
        let code = match ended {
            Ok(code) => code,
            Err(asked) => {
                if let Asked::End(grace) = asked {
                    note(self.kubelet.store(), pod, "Killing", "Stopping container", MANAGER);
                    process.ask_to_end();
                    tokio::select! {
                        _code = process.ended() => {}
                        () = sleep(Duration::from_secs(grace)) => {}
                        () = self.vanished() => {}
                    }
                }
                process.kill();
                process.ended().await
            }
        };
        self.write(Container::Ended(code), started);
        if let Some(told) = self.kubelet.termination_message(pod, code) {
            self.update_status(|pod| {
                status_mut(pod)["containerStatuses"][0]["state"]["terminated"]["message"] = told.into();
            });
        }
    }

    /// Opens the pod's ports and does what comes up until it is asked to end.
    async fn serve(
        &mut self,
        pod: &Value,
        ip: Ipv4Addr,
        workload: Option<&Workload>,
        started: &str,
    ) -> Asked {
        if let Some(workload) = workload {
            self.kubelet.count(workload, true).await;
        }
        if let Some(running) = self.kubelet.running().get_mut(&self.uid) {
            running.serves = true;
        }
        for port in self.kubelet.inner.parts.network.pod_ports(ip) {
            // A gate that is shut down belongs to a cluster that ends.
            let _opened = port.open().await;
        }
        self.kubelet.log_all(pod, "Application startup complete");
        self.write(Container::Ready, started);
        self.asked().await
    }

    /// The pod's object, if it is still the same.
    fn pod(&self) -> Option<std::sync::Arc<Value>> {
        self.kubelet.store().get(&self.key).filter(|pod| meta(pod, "uid") == self.uid)
    }

    /// Gives the pod its node.
    fn place(&self) {
        let node = self.kubelet.inner.parts.node.clone();
        let now = self.kubelet.store().clock().now();
        let placed = self.kubelet.store().update(&self.key, Writer::of_object("kube-scheduler"), |pod| {
            if pod["spec"]["nodeName"].is_null() {
                pod["spec"]["nodeName"] = node.as_str().into();
            }
            Ok(())
        });
        if let Ok(pod) = placed {
            let told =
                format!("Successfully assigned {}/{} to {node}", meta(&pod, "namespace"), meta(&pod, "name"));
            note(self.kubelet.store(), &pod, "Scheduled", &told, "default-scheduler");
            self.update_status(|pod| status::scheduled(pod, now));
        }
    }

    /// Gives the pod its address, with closed ports; none if it is asked to end meanwhile.
    async fn start_container(
        &mut self,
        pod: &Value,
        workload: Option<&Workload>,
        life: &CancellationToken,
        started: &str,
    ) -> Option<Ipv4Addr> {
        let key = workload.map(Workload::key);
        let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
        let ports = containers.flat_map(|container| container["ports"].as_array().into_iter().flatten());
        let numbers = ports.filter_map(|port| u16::try_from(port["containerPort"].as_u64()?).ok());
        let numbers: Vec<u16> = numbers.collect();
        let network = self.kubelet.inner.parts.network.clone();
        let ip = loop {
            let backing = key.as_ref().and_then(|key| self.kubelet.backing(key));
            let ports: Vec<_> = numbers.iter().filter_map(|port| Some((*port, backing?))).collect();
            let taken = network.range().take(Part::Pods);
            if let Ok(ip) = taken {
                match network.add_pod(ip, &ports).await {
                    Ok(()) => break ip,
                    Err(error) => {
                        network.range().give_back(ip);
                        let told = format!("the pod's ports cannot be listened on: {error}");
                        warn(self.kubelet.store(), pod, "FailedCreatePodSandBox", &told, MANAGER);
                    }
                }
            }
            if self.unless_asked(sleep(BIND_AGAIN_AFTER)).await.is_some() {
                return None;
            }
        };
        let mut with_address = pod.clone();
        with_address["status"]["podIP"] = ip.to_string().into();
        let environments = std::sync::Arc::new(self.kubelet.environments(&with_address));
        let running =
            Running { life: life.clone(), ip, workload: key, ports: numbers, serves: false, environments };
        self.kubelet.running().insert(self.uid.clone(), running);
        self.kubelet.log_all(pod, "Started");
        self.update_status(|pod| {
            let status = status_mut(pod);
            status["podIP"] = ip.to_string().into();
            status["podIPs"] = json!([{ "ip": ip.to_string() }]);
            status["hostIP"] = "127.0.0.1".into();
        });
        note(self.kubelet.store(), pod, "Started", "Started container", MANAGER);
        self.write(Container::Started, started);
        Some(ip)
    }

    /// The process is gone: connections and commands with it.
    async fn stop(&mut self, ip: Ipv4Addr, life: &CancellationToken) {
        life.cancel();
        self.kubelet.running().remove(&self.uid);
        let network = &self.kubelet.inner.parts.network;
        // A packet filter goes with the network of its pod.
        self.tables.clear(network).await;
        network.remove_pod(ip).await;
    }

    fn write(&self, state: Container, started: &str) {
        let now = self.kubelet.store().clock().now();
        self.update_status(|pod| status::write(pod, state, started, now));
    }

    fn update_status(&self, change: impl FnOnce(&mut Value)) {
        let uid = self.uid.clone();
        // A pod that is gone by now has no status.
        let _written = self.kubelet.store().update(&self.key, Writer::of_status(MANAGER), |pod| {
            if meta(pod, "uid") == uid {
                change(pod);
            }
            Ok(())
        });
    }

    fn delete(&self) {
        let deletion = Deletion { uid: Some(self.uid.clone()), ..Deletion::now() };
        // Somebody may have deleted it by force.
        let _deleted = self.kubelet.store().delete(&self.key, &deletion, MANAGER);
    }

    /// Waits, and leaves off when the pod is asked to end.
    async fn unless_asked(&mut self, wait: impl Future<Output = ()>) -> Option<Asked> {
        tokio::select! {
            asked = self.asked() => Some(asked),
            () = wait => None,
        }
    }

    /// Waits until the pod is asked to end, and takes up its ephemeral containers meanwhile.
    async fn asked(&mut self) -> Asked {
        loop {
            let Some(pod) = self.pod() else { return Asked::Vanish };
            if is_ending(&pod) {
                return Asked::End(pod["metadata"]["deletionGracePeriodSeconds"].as_u64().unwrap_or(30));
            }
            self.take_up_ephemeral(&pod).await;
            self.change().await;
        }
    }

    async fn vanished(&mut self) {
        while self.pod().is_some() {
            self.change().await;
        }
    }

    /// Waits for a change of this pod; also for having missed some.
    async fn change(&mut self) {
        loop {
            match self.changes.next().await {
                Ok(change) if change.key == self.key => return,
                Ok(_) => {}
                Err(_) => {
                    self.changes = subscribe(self.kubelet.store());
                    return;
                }
            }
        }
    }

    async fn take_up_ephemeral(&mut self, pod: &Value) {
        let all = pod["spec"]["ephemeralContainers"].as_array().cloned().unwrap_or_default();
        if all.len() <= self.ephemeral.len() || !self.kubelet.running().contains_key(&self.uid) {
            return;
        }
        for container in all.iter().skip(self.ephemeral.len()) {
            let state = self.run_ephemeral(container).await;
            self.ephemeral.push(json!({
                "name": container["name"], "image": container["image"], "imageID": container["image"],
                "ready": false, "restartCount": 0, "state": state, "lastState": {},
            }));
        }
        let statuses = self.ephemeral.clone();
        self.update_status(|pod| status_mut(pod)["ephemeralContainerStatuses"] = statuses.into());
    }

    /// What becomes of an ephemeral container.
    async fn run_ephemeral(&mut self, container: &Value) -> Value {
        let image = container["image"].as_str().unwrap_or_default();
        if image.starts_with(NO_REGISTRY) {
            let told = format!("Back-off pulling image \"{image}\"");
            return json!({ "waiting": { "reason": "ImagePullBackOff", "message": told } });
        }
        let done = match packet_filter::read(container) {
            Some(command) => self.filter(command).await,
            None => Ok(()),
        };
        let now = to_seconds(self.kubelet.store().clock().now());
        let ended = match done {
            Ok(()) => json!({ "exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now }),
            Err(told) => json!({
                "exitCode": 1, "reason": "Error", "message": told, "startedAt": now, "finishedAt": now,
            }),
        };
        json!({ "terminated": ended })
    }

    async fn filter(&mut self, command: packet_filter::Command) -> Result<(), &'static str> {
        let inner = &self.kubelet.inner;
        let network = inner.parts.network.clone();
        let Some(filter) = self.tables.run(command, &network).await? else { return Ok(()) };
        let end = inner.end.clone();
        inner.tasks.spawn(async move {
            tokio::select! {
                () = end.cancelled() => {}
                () = sleep(filter.drops.within) => filter.lift(&network).await,
            }
        });
        Ok(())
    }
}

impl Kubelet {
    pub(super) fn store(&self) -> &Store {
        &self.inner.parts.store
    }

    fn log_all(&self, pod: &Value, line: &str) {
        for container in pod["spec"]["containers"].as_array().into_iter().flatten() {
            self.log_line(pod, container["name"].as_str().unwrap_or_default(), line);
        }
    }

    /// What is behind a pod, by the Deployment that it comes from.
    fn workload_of(&self, pod: &Value) -> Option<Workload> {
        let set = controller_of(pod).filter(|owner| owner["kind"] == "ReplicaSet")?;
        let namespace = meta(pod, "namespace");
        let set = self.store().get(&ObjectKey::new(&REPLICA_SETS, namespace, set["name"].as_str()?))?;
        let deployment = controller_of(&set)?["name"].as_str()?.to_owned();
        let workloads = self.inner.workloads.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let is_of =
            |workload: &&Workload| workload.namespace == namespace && workload.deployment == deployment;
        workloads.iter().find(is_of).cloned()
    }

    /// Notes that a process has begun or ended, and tells of the first and the last.
    async fn count(&self, workload: &Workload, begins: bool) {
        let mut serving = self.inner.serving.lock().await;
        let (namespace, deployment) = (workload.namespace.clone(), workload.deployment.clone());
        let count = serving.entry((namespace.clone(), deployment.clone())).or_default();
        let processes = &self.inner.parts.processes;
        if begins {
            *count += 1;
            if *count == 1 {
                self.note_change(workload, true);
                processes.started(&namespace, &deployment).await;
            }
        } else {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.note_change(workload, false);
                processes.stopped(&namespace, &deployment).await;
            }
        }
    }
}
