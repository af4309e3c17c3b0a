// Package deploy holds what is offered for running nodes, in the folder deploy, to the
// program: settings that are loaded as a node would load them, users that are not root,
// file systems that are read-only, units that systemd itself finds right. It has tests
// only. The manifests for Kubernetes are also decoded by Kubernetes' own types, in
// deploy/kubernetes/check, a module of its own.
package deploy
