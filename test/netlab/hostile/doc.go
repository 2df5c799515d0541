// Package hostile answers: what can somebody who means harm do to a mesh that runs? Its tests attack a real one (package mesh)
// in a lab, from pods inside and outside of it and from processes on the node, with what such a user can send: broken
// protocols, wrong certificates, stalls, floods, lies, bad manifests, wrong tokens. Each attack must meet a clear error where
// operators look (log, metric, status), leave memory bounded, and disturb nobody: connections of bystanders exchange messages
// throughout, and a new connection works afterwards.
//
// There is one lab, and the attacks run one after another, each a subtest of TestHostileUsers. It needs root.
package hostile
