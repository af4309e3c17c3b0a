// Package browser tests the console in a browser without a window: what is on its
// pages, that they keep themselves fresh, the keyboard, narrow screens, and that the
// browser complains of nothing. It is skipped where there is no Chromium.
//
// The pictures of docs come from it:
//
//	go test ./cmd/internal/console/browser -pictures ../../../../docs/console
package browser
