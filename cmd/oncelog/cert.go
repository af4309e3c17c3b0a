package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/oncelog/oncelog/internal/pki"
)

const certLong = `Cert makes certificates for a cluster: a CA, then one for each node and client.
They are for development, and for clusters that have no CA of their own; any
other CA will do, if the certificates of nodes have the organization
oncelog:nodes and those of clients their principal as common name.

The key of the CA, ca.key, signs: keep it away from the nodes.`

// Names of files, of which ca.crt goes to everybody.
const (
	caName     = "ca"
	certSuffix = ".crt"
	keySuffix  = ".key"
)

func newCertCommand(a *app) *cobra.Command {
	c := parent("cert", "Make certificates for nodes and clients", newCertCACommand(a), newCertNodeCommand(a), newCertClientCommand(a))
	c.Long = certLong
	return c
}

// certFlags are those of all three commands.
type certFlags struct {
	dir   string
	caDir string // empty: dir
	days  int
	force bool
	keep  bool
}

const maxCertDays = int(pki.MaxValid / (24 * time.Hour))

func (f *certFlags) add(c *cobra.Command, days int) {
	c.Flags().StringVar(&f.dir, "dir", "certs", "folder of the files")
	c.Flags().IntVar(&f.days, "days", days, "how long it is valid")
	c.Flags().BoolVar(&f.force, "force", false, "write over files that are there")
	c.Flags().BoolVar(&f.keep, "keep", false, "leave files that are there as they are, and call it done: for scripts that run again and again")
}

func (f *certFlags) valid() (time.Duration, error) {
	if f.force && f.keep {
		return 0, &usageError{errors.New("--force writes over files and --keep leaves them: say one of them")}
	}
	if f.days < 1 || f.days > maxCertDays {
		return 0, &usageError{fmt.Errorf("--days %d: 1 to %d", f.days, maxCertDays)}
	}
	return time.Duration(f.days) * 24 * time.Hour, nil
}

func newCertCACommand(a *app) *cobra.Command {
	var f certFlags
	c := &cobra.Command{
		Use:   "ca",
		Short: "Make a CA: ca.crt, which everybody gets, and ca.key, which signs",
		Args:  takes(0, 0),
		RunE: func(*cobra.Command, []string) error {
			valid, err := f.valid()
			if err != nil {
				return err
			}
			_, p, err := pki.NewAuthority("oncelog CA", valid)
			if err != nil {
				return err
			}
			return f.write(a, caName, p)
		},
	}
	f.add(c, 3650)
	return c
}

func newCertNodeCommand(a *app) *cobra.Command {
	var (
		f    certFlags
		name string
	)
	c := &cobra.Command{
		Use:   "node HOST...",
		Short: "Make the certificate of a node, for the names under which it is reached",
		Long: `Node makes the certificate of a node, for listening and for its connections to
other nodes. HOST is a DNS name or an address under which clients or nodes reach
it; localhost, 127.0.0.1 and ::1 are always among them.`,
		Example: `  oncelog cert node coordinator-1 10.0.0.1 --name coordinator-1`,
		Args:    takes(1, 100),
		RunE: func(_ *cobra.Command, hosts []string) error {
			for _, h := range []string{"localhost", "127.0.0.1", "::1"} {
				if !slices.Contains(hosts, h) {
					hosts = append(hosts, h)
				}
			}
			return f.issue(a, name, func(ca *pki.Authority, valid time.Duration) (pki.Pair, error) { return ca.Node(name, hosts, valid) })
		},
	}
	f.add(c, 365)
	c.Flags().StringVar(&f.caDir, "ca-dir", "", "folder of the CA, if it is not --dir, which then gets ca.crt and not the key; empty: --dir")
	c.Flags().StringVar(&name, "name", "node", "name of the files, and common name")
	return c
}

func newCertClientCommand(a *app) *cobra.Command {
	var f certFlags
	c := &cobra.Command{
		Use:     "client NAME",
		Short:   "Make the certificate of a client, whose principal is NAME",
		Example: `  oncelog cert client billing`,
		Args:    takes(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			return f.issue(a, args[0], func(ca *pki.Authority, valid time.Duration) (pki.Pair, error) { return ca.Client(args[0], valid) })
		},
	}
	f.add(c, 365)
	c.Flags().StringVar(&f.caDir, "ca-dir", "", "folder of the CA, if it is not --dir, which then gets ca.crt and not the key; empty: --dir")
	return c
}

// issue makes a certificate that the folder's CA signs.
func (f *certFlags) issue(a *app, name string, issue func(ca *pki.Authority, valid time.Duration) (pki.Pair, error)) error {
	valid, err := f.valid()
	if err != nil {
		return err
	}
	if name == caName || name == "" || strings.ContainsAny(name, `/\`) || strings.HasPrefix(name, ".") {
		return &usageError{fmt.Errorf("name %q: it is a file's, too, and not the CA's", name)}
	}
	ca, err := f.authority()
	if err != nil {
		return err
	}
	p, err := issue(ca, valid)
	if err != nil {
		return &usageError{err}
	}
	if f.caDir != "" { // so that the folder has all that its owner needs
		if err := os.MkdirAll(f.dir, 0o755); err != nil {
			return err
		}
		if err := writeFile(f.path(caName+certSuffix), ca.Cert(), 0o644); err != nil {
			return err
		}
	}
	return f.write(a, name, p)
}

func (f *certFlags) authority() (*pki.Authority, error) {
	cert, err := os.ReadFile(filepath.Join(f.authorityDir(), caName+certSuffix))
	if err != nil {
		return nil, f.noCA(err)
	}
	key, err := os.ReadFile(filepath.Join(f.authorityDir(), caName+keySuffix))
	if err != nil {
		return nil, f.noCA(err)
	}
	ca, err := pki.ReadAuthority(pki.Pair{Cert: cert, Key: key})
	if err != nil {
		return nil, fmt.Errorf("the CA in %s cannot be used: %w", f.authorityDir(), err)
	}
	return ca, nil
}

func (f *certFlags) authorityDir() string {
	if f.caDir != "" {
		return f.caDir
	}
	return f.dir
}

func (f *certFlags) noCA(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &helpError{fmt.Errorf("there is no CA in %s: %w", f.authorityDir(), err), "Make one with `oncelog cert ca`, or name its folder with --dir or --ca-dir."}
	}
	return err
}

func (f *certFlags) path(name string) string { return filepath.Join(f.dir, name) }

// write writes the certificate, which everybody may read, and the key, which only
// the owner may.
func (f *certFlags) write(a *app, name string, p pki.Pair) error {
	if err := os.MkdirAll(f.dir, 0o755); err != nil {
		return err
	}
	cert, key := f.path(name+certSuffix), f.path(name+keySuffix)
	for _, file := range []string{cert, key} {
		if _, err := os.Stat(file); err == nil && !f.force && !f.keep {
			return &helpError{fmt.Errorf("%s is there already", file), "Nothing was written. Say --force to write over it, or --keep to leave it."}
		}
	}
	// Half a pair is of no use to anybody: it is written anew.
	if f.keep && exist(cert, key) {
		_, err := fmt.Fprintf(a.out, "%s\n%s\n", cert, key)
		return err
	}
	// The key goes first: a certificate without its key is of no use.
	if err := writeFile(key, p.Key, 0o600); err != nil {
		return err
	}
	if err := writeFile(cert, p.Cert, 0o644); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.out, "%s\n%s\n", cert, key)
	return err
}

// exist reports whether all of these are there.
func exist(files ...string) bool {
	return !slices.ContainsFunc(files, func(file string) bool {
		_, err := os.Stat(file)
		return err != nil
	})
}

// writeFile puts a whole file in the place of another: a node that looks meanwhile
// sees the one or the other.
func writeFile(path string, content []byte, mode os.FileMode) error {
	temporary := path + ".new"
	if err := os.WriteFile(temporary, content, mode); err != nil {
		return err
	}
	return errors.Join(os.Chmod(temporary, mode), os.Rename(temporary, path))
}
