package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// roster is all processes of clients: those that work, and those that have.
type roster struct {
	w    *world
	seed uint64

	mu      sync.Mutex
	working []*crew
	all     []*crew
	busy    map[*crew]bool // some fault has its hands on it
	client  uint32         // the last number given to a client
	names   map[string]int
}

func newRoster(w *world, seed uint64) *roster {
	return &roster{w: w, seed: seed, busy: make(map[*crew]bool), names: make(map[string]int)}
}

// hire starts a process of clients by a plan.
func (r *roster) hire(p crewPlan) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.names[p.name]++
	name := p.name
	if n := r.names[p.name]; n > 1 {
		name = fmt.Sprintf("%s.%d", p.name, n)
	}
	spec := WorkerSpec{Servers: r.w.servers, Seed: r.seed, Clients: slices.Clone(p.clients)}
	for i := range spec.Clients {
		r.client++
		spec.Clients[i].Client = r.client
	}
	c, err := startCrew(r.w.cfg.command(r.w.cfg.WorkerCommand), name, p, spec, filepath.Join(r.w.dir, name+".log"))
	if err != nil {
		return err
	}
	r.w.procs.Enter(c.cmd.Process.Pid, name)
	r.all = append(r.all, c)
	r.working = append(r.working, c)
	return c.begin()
}

// take reserves a process for a fault; nil if others have them all.
func (r *roster) take(rng *rand.Rand) (_ *crew, give func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, i := range rng.Perm(len(r.working)) {
		if c := r.working[i]; !r.busy[c] {
			r.busy[c] = true
			return c, func() {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.busy[c] = false
			}
		}
	}
	return nil, func() {}
}

// dismiss takes a process off the list of those that work.
func (r *roster) dismiss(c *crew) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.working = slices.DeleteFunc(r.working, func(x *crew) bool { return x == c })
}

// present returns the processes that work.
func (r *roster) present() []*crew {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.working)
}

// everybody returns all processes there ever were.
func (r *roster) everybody() []*crew {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

// waiting returns the clients that have achieved nothing since a time.
func (r *roster) waiting(since time.Time) []string {
	var out []string
	for _, c := range r.present() {
		out = append(out, c.waiting(since)...)
	}
	return out
}

// stop has all clients finish, until ctx ends.
func (r *roster) stop(ctx context.Context) error {
	crews := r.present()
	errs := make([]error, len(crews))
	var wg sync.WaitGroup
	for i, c := range crews {
		wg.Go(func() { errs[i] = c.stop(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// kill ends all processes at once.
func (r *roster) kill() {
	for _, c := range r.everybody() {
		c.kill()
	}
}

// journals returns what all processes have recorded.
func (r *roster) journals() []journal {
	var out []journal
	for _, c := range r.everybody() {
		out = append(out, c.journal())
	}
	return out
}

// failures returns what went wrong in the processes.
func (r *roster) failures() []error {
	var out []error
	for _, c := range r.everybody() {
		if err := c.failure(); err != nil {
			out = append(out, err)
		}
	}
	return out
}
