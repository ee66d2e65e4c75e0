package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"
	_ "time/tzdata" // the time zones of sites, on machines that have none

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/holdfast-fleet/holdfast/internal/buildinfo"
	"github.com/holdfast-fleet/holdfast/internal/bus"
	"github.com/holdfast-fleet/holdfast/internal/bus/link"
	"github.com/holdfast-fleet/holdfast/internal/hub"
	"github.com/holdfast-fleet/holdfast/internal/online"
	"github.com/holdfast-fleet/holdfast/pkg/verify/cosign"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf"
)

const defaultData = "holdfast-hub-data"

// runOptions are the flags of run.
type runOptions struct {
	data, trust, storeKey string
	onlineKeys            []string
	listenNATS, listenAPI string
	listenWebSocket       string
	siteURLs              []string
	hosts                 []string
	natsURL, natsCreds    string
	natsKeys, natsCA      string
	natsSystem            string
	replicas              int
	heartBeat             time.Duration
	prometheus            string
	certificate           hub.CertificateFiles
	logLevel, logFormat   string
	backups               hub.Backups
	retention             hub.Retention
	profileSocket         string
}

func newRun() *cobra.Command {
	o := runOptions{}
	cmd := &cobra.Command{
		Use: "run --trust FOLDER", Short: "Run the hub until it is told to stop",
		RunE: func(cmd *cobra.Command, _ []string) error { return runHub(cmd, o) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.data, "data", defaultData, "`directory` of the hub's keys and store")
	flags.StringVar(&o.storeKey, "store-key", "", storeKeyUsage)
	flags.StringVar(&o.trust, "trust", "", "`folder` with the fleet's root of trust: who may release what (made by holdfast init)")
	flags.StringSliceVar(&o.onlineKeys, "online-key", nil, "private key `file` that the root of trust names for this hub, repeatable for a rotation (default online.key in the folder of --trust)")
	flags.StringVar(&o.listenNATS, "listen-nats", "0.0.0.0:4222", "`address` for the sites")
	flags.StringVar(&o.listenWebSocket, "listen-websocket", "", "`address` for the sites over WebSocket, such as 0.0.0.0:443, for networks that let nothing but HTTPS out (default: none)")
	flags.StringSliceVar(&o.siteURLs, "site-url", nil, "`address` of the bus that sites are given, tls://host:port or wss://host:port, repeatable in the order in which they try them (default: made of --host and the ports)")
	flags.StringVar(&o.listenAPI, "listen-api", "0.0.0.0:8443", "`address` for operators")
	flags.StringSliceVar(&o.hosts, "host", nil, "public `name` or IP address of this hub, repeatable; the first one is preferred (default 127.0.0.1)")
	flags.StringVar(&o.certificate.Cert, "tls-cert", "", "certificate `file` in PEM that bus and API show, intermediates after it; read anew when it changes, and on SIGHUP (default: made by the hub's own CA)")
	flags.StringVar(&o.certificate.Key, "tls-key", "", "private key `file` of --tls-cert")
	flags.StringVar(&o.certificate.CA, "tls-ca", "", "`file` with the CA of --tls-cert, which sites and desks are given and believe alone")
	flags.StringVar(&o.natsURL, "nats-url", "", "use the NATS cluster at these `URLs` instead of an embedded server")
	flags.StringVar(&o.natsCreds, "nats-creds", "", "credentials `file` of the hub's user there (default: made of the keys)")
	flags.StringVar(&o.natsSystem, "nats-system-creds", "", "credentials `file` of a user of its system account, who cuts the connections of revoked sites (default: made of the keys)")
	flags.StringVar(&o.natsKeys, "nats-keys", "", "`file` with the bus keys of that cluster (default: those of the data directory)")
	flags.StringVar(&o.natsCA, "nats-ca", "", "CA `file` of that cluster, for hub and sites")
	flags.IntVar(&o.replicas, "replicas", 0, "`nodes` of that cluster that keep each stream: 1, 3 or 5 (default 3 in a cluster, 1 on a single server)")
	flags.DurationVar(&o.heartBeat, "heartbeat", 6*time.Minute, "how often sites say that they are there; one whose connection ends is missed at once")
	flags.StringVar(&o.prometheus, "prometheus-url", "", "`URL` of the Prometheus that checks of rollout plans may query")
	flags.StringVar(&o.backups.Dir, "backup-to", "", "`folder` for backups of the hub's store, best on another disk (default: none are made)")
	flags.DurationVar(&o.backups.Every, "backup-every", 24*time.Hour, "how often a backup is made")
	flags.IntVar(&o.backups.Keep, "backup-keep", 7, "how many backups stay")
	flags.DurationVar(&o.retention.Rollouts, "keep-rollouts", 90*24*time.Hour, "how long a rollout is kept after it ended and nothing comes of it any more")
	flags.DurationVar(&o.retention.Audit, "keep-audit", 400*24*time.Hour, "how long records of the audit log are kept; the newest 1000 stay, however old")
	flags.StringVar(&o.logLevel, "log-level", "info", "`level`: debug, info, warn or error")
	flags.StringVar(&o.logFormat, "log-format", "console", "`format`: console or json")
	flags.StringVar(&o.profileSocket, "profile-socket", "", "serve profiles of this process on a unix socket at this `path`, which nobody but its user can open")
	_ = flags.MarkHidden("profile-socket") // for who works on the hub: docs/benchmarks.md
	return cmd
}

// gcPercent is how much garbage there may be. Most of a hub's memory is its connections, which stay: the usual 100 would keep as much again for nothing.
const gcPercent = 50

func runHub(cmd *cobra.Command, o runOptions) error {
	cfg, err := o.config()
	if err != nil {
		return err
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if o.profileSocket != "" {
		stop, err := serveProfiles(o.profileSocket)
		if err != nil {
			return err
		}
		defer stop()
	}
	h, err := hub.Open(cmd.Context(), cfg)
	if err != nil {
		return err
	}
	defer h.Close()
	talk := cmd.ErrOrStderr()
	fmt.Fprintf(talk, "holdfast-hub %s: fleet %s\n", buildinfo.Version(), h.Fleet())
	fmt.Fprintf(talk, "api:   %s\nsites: %s\n", h.URL(), strings.Join(h.Servers(), " "))
	if len(o.hosts) == 0 {
		fmt.Fprintln(talk, "hint:  without --host only this machine reaches the hub by the addresses it gives out")
	}
	if _, err := os.Stat(h.ContextFile()); err == nil {
		fmt.Fprintf(talk, "admin: %s\n", h.ContextFile())
	}
	fmt.Fprintln(talk, "ready")
	defer onHangup(h.Reload)()
	err = h.Wait(cmd.Context())
	fmt.Fprintln(talk, "stopping")
	return err
}

// onHangup calls f on each SIGHUP until stop is called.
func onHangup(f func()) (stop func()) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	go func() {
		for range hangups {
			f()
		}
	}()
	return func() {
		signal.Stop(hangups)
		close(hangups)
	}
}

func (o runOptions) config() (hub.Config, error) {
	log, err := newLogger(o.logLevel, o.logFormat)
	if err != nil {
		return hub.Config{}, usageError{err}
	}
	cfg := hub.Config{
		DataDir: o.data, StoreKey: o.storeKey, ListenNATS: o.listenNATS, ListenWebSocket: o.listenWebSocket, ListenAPI: o.listenAPI, Hosts: o.hosts, SiteURLs: o.siteURLs,
		Signatures: cosign.Verifier{}, HeartBeat: o.heartBeat, Prometheus: o.prometheus, Log: log,
	}
	if o.prometheus != "" {
		if u, err := url.Parse(o.prometheus); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return cfg, usageError{fmt.Errorf("--prometheus-url: %q: want http or https, and a host", o.prometheus)}
		}
	}
	if c := o.certificate; c != (hub.CertificateFiles{}) {
		if c.Cert == "" || c.Key == "" || c.CA == "" {
			return cfg, usageError{errors.New("--tls-cert, --tls-key and --tls-ca: want all three or none")}
		}
		if len(o.hosts) == 0 {
			return cfg, usageError{errors.New("--tls-cert: want --host NAME, too: the name in the certificate by which sites and desks reach the hub")}
		}
		cfg.Certificate = &c
	}
	for _, address := range o.siteURLs {
		if err := link.CheckServer(address); err != nil {
			return cfg, usageError{fmt.Errorf("--site-url: %w", err)}
		}
	}
	if o.natsURL != "" && o.listenWebSocket != "" {
		return cfg, usageError{errors.New("--listen-websocket is for the embedded bus: with --nats-url, give its address with --site-url")}
	}
	if o.backups.Every < time.Minute || o.backups.Keep < 1 {
		return cfg, usageError{errors.New("--backup-every and --backup-keep: want a minute or more, and one or more")}
	}
	cfg.Backups, cfg.Retention = o.backups, o.retention
	if o.trust == "" {
		return cfg, missingTrust{errors.New("--trust: the folder of a root of trust is needed, or nothing could be believed")}
	}
	if err := o.rootOfTrust(&cfg); err != nil {
		return cfg, err
	}
	if o.natsURL == "" {
		if o.natsCreds != "" || o.natsSystem != "" || o.natsKeys != "" || o.natsCA != "" || o.replicas != 0 {
			return cfg, usageError{errors.New("--nats-creds, --nats-system-creds, --nats-keys, --nats-ca and --replicas are for --nats-url")}
		}
		return cfg, nil
	}
	cfg.External, err = o.external()
	return cfg, err
}

// repository is the folder with what is published.
func (o runOptions) repository() string {
	repository := filepath.Join(o.trust, "tuf")
	if _, err := os.Stat(repository); errors.Is(err, fs.ErrNotExist) {
		return o.trust
	}
	return repository
}

func (o runOptions) onlineFiles() []string {
	if len(o.onlineKeys) > 0 {
		return o.onlineKeys
	}
	return []string{filepath.Join(o.trust, "online.key")}
}

// rootOfTrust reads what is published and the online keys.
func (o runOptions) rootOfTrust(cfg *hub.Config) (err error) {
	if cfg.Trust, err = tuf.ReadRepository(os.DirFS(o.repository())); errors.Is(err, fs.ErrNotExist) {
		return missingTrust{fmt.Errorf("trust folder %s: %w", o.trust, err)}
	}
	if err != nil {
		return fmt.Errorf("trust folder %s: %w", o.trust, err)
	}
	for _, file := range o.onlineFiles() {
		raw, err := readFile("online key", file, online.MaxFile)
		if err != nil {
			return missingKey{err}
		}
		key, err := online.Decode(raw)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		cfg.Online = append(cfg.Online, key)
	}
	return nil
}

// missingKey is a hub without the key that its fleet's root names.
type missingKey struct{ error }

// Hint says where the key is.
func (missingKey) Hint() string {
	return "holdfast init made it: online.key in the fleet's folder; give it with --online-key FILE"
}

func (m missingKey) Unwrap() error { return m.error }

// external is the bus of the --nats flags.
func (o runOptions) external() (*hub.External, error) {
	external := &hub.External{URL: o.natsURL, Replicas: o.replicas}
	if !slices.Contains([]int{0, 1, 3, 5}, o.replicas) {
		return nil, usageError{fmt.Errorf("--replicas: %d: want 1, 3 or 5", o.replicas)}
	}
	for _, server := range strings.Split(o.natsURL, ",") {
		if !strings.HasPrefix(server, "tls://") {
			return nil, usageError{fmt.Errorf("--nats-url: %q: want tls://host:port, and commas between several", server)}
		}
	}
	if o.natsCA != "" {
		ca, err := readFile("CA", o.natsCA, maxSmallFile)
		if err != nil {
			return nil, err
		}
		external.CA = ca
	}
	if o.natsKeys != "" {
		raw, err := readFile("bus keys", o.natsKeys, maxSmallFile)
		if err != nil {
			return nil, err
		}
		external.Keys = new(bus.Keys)
		if err := json.Unmarshal(raw, external.Keys); err != nil {
			return nil, fmt.Errorf("bus keys %s: %w", o.natsKeys, err)
		}
	}
	for file, into := range map[string]**bus.Credentials{o.natsCreds: &external.Credentials, o.natsSystem: &external.System} {
		if file == "" {
			continue
		}
		raw, err := readFile("credentials", file, maxSmallFile)
		if err != nil {
			return nil, err
		}
		credentials, err := bus.ParseCredentials(raw)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		*into = &credentials
	}
	return external, nil
}

// missingTrust is the one refusal a first start usually meets.
type missingTrust struct{ error }

// Hint says how to get a root of trust.
func (missingTrust) Hint() string { return "holdfast init makes one: holdfast init --help" }

func (m missingTrust) Unwrap() error { return m.error }

const maxSmallFile = 1 << 20 // bytes

func readFile(what, path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err == nil && info.Size() > limit {
		return nil, fmt.Errorf("%s file %s: %d bytes are more than the %d it may have", what, path, info.Size(), limit)
	}
	raw, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return nil, fmt.Errorf("%s file: %w", what, err)
	}
	return raw, nil
}

func newLogger(level, format string) (*zap.Logger, error) {
	at, err := zapcore.ParseLevel(level)
	if err != nil {
		return nil, fmt.Errorf("--log-level: %q: want debug, info, warn or error", level)
	}
	encoding := zap.NewProductionEncoderConfig()
	encoding.EncodeTime = zapcore.RFC3339TimeEncoder
	var encoder zapcore.Encoder
	switch format {
	case "json":
		encoder = zapcore.NewJSONEncoder(encoding)
	case "console":
		encoder = zapcore.NewConsoleEncoder(encoding)
	default:
		return nil, fmt.Errorf("--log-format: %q: want console or json", format)
	}
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(os.Stderr), at)), nil
}
