// Package pki makes certificates for clusters, and reads them for connections: from
// files, and again when these change, so that certificates are renewed without a
// restart.
//
// Nodes are told from clients by their certificate: it names [NodeOrganization] as
// its organization, as kubelets name system:nodes. A client's common name is its
// principal.
package pki
