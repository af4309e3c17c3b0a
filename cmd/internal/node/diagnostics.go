package node

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"sync"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/cmd/internal/config"
	"github.com/oncelog/oncelog/cmd/internal/metrics"
)

// maxDiagnostics bounds the goroutines and the metrics of an answer, each.
const maxDiagnostics = 4 << 20

// diagnostics is the inside of one node, for operators.
type diagnostics struct {
	oncelogv1.UnimplementedDebugServiceServer
	settings config.Section
	// register adds the node to a registry of metrics.
	register func(*metrics.Registry)
	// answering: stacks stop the program for a moment, so there is one call at a time.
	answering sync.Mutex
}

// GetDiagnostics implements the contract.
func (d *diagnostics) GetDiagnostics(context.Context, *oncelogv1.GetDiagnosticsRequest) (*oncelogv1.GetDiagnosticsResponse, error) {
	if !d.answering.TryLock() {
		return nil, apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_OVERLOADED, "the node is answering another such call; try again")
	}
	defer d.answering.Unlock()
	res := &oncelogv1.GetDiagnosticsResponse{
		Version: Version(), Platform: fmt.Sprintf("%s %s/%s, %d processors", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0)),
		Modules: modules(),
	}
	for _, k := range config.Keys(d.settings) {
		res.Settings = append(res.Settings, &oncelogv1.Setting{Name: k.Name, Value: k.Value()})
	}
	var stacks bytes.Buffer
	// Equal stacks together, and without the values of arguments.
	if err := pprof.Lookup("goroutine").WriteTo(&stacks, 1); err != nil {
		return nil, apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_INTERNAL, "the goroutines cannot be told: "+err.Error())
	}
	all := metrics.NewRegistry()
	d.register(all)
	figures, err := all.Text()
	if err != nil {
		return nil, apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_INTERNAL, "the metrics cannot be told: "+err.Error())
	}
	var cut1, cut2 bool
	res.Goroutines, cut1 = cutLines(stacks.String())
	res.Metrics, cut2 = cutLines(figures)
	res.Truncated = cut1 || cut2
	return res, nil
}

// cutLines cuts a text off after a line.
func cutLines(text string) (string, bool) {
	if len(text) <= maxDiagnostics {
		return text, false
	}
	return text[:strings.LastIndexByte(text[:maxDiagnostics], '\n')+1], true
}

// modules are the modules that the program was built from.
func modules() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	var b strings.Builder
	for _, m := range info.Deps {
		fmt.Fprintln(&b, m.Path, m.Version)
	}
	return b.String()
}
