package api

import "fmt"

// MinVersion and Version are the oldest and newest version of the protocol that this build speaks.
const (
	MinVersion uint32 = 1
	Version    uint32 = 1
)

// Negotiate answers with the newest version that both sides speak, given the peer's inclusive range.
func Negotiate(peerMin, peerMax uint32) (uint32, error) {
	return negotiate(MinVersion, Version, peerMin, peerMax)
}

func negotiate(ourMin, ourMax, peerMin, peerMax uint32) (uint32, error) {
	if peerMin == 0 || peerMax < peerMin {
		return 0, fmt.Errorf("hand-off protocol: a version range from %d to %d means nothing", peerMin, peerMax)
	}
	both := min(ourMax, peerMax)
	if both < max(ourMin, peerMin) {
		return 0, fmt.Errorf("hand-off protocol: this build speaks versions %d to %d, the peer %d to %d",
			ourMin, ourMax, peerMin, peerMax)
	}
	return both, nil
}
