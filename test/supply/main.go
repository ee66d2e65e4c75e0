// Command supply holds our own supply chain to T30: it runs govulncheck over the programs that are shipped and fails for every vulnerability that
// is called, but for those accepted here, each with its reason. An acceptance that is no longer needed fails too, so that the list only holds
// what is true.
//
// The database is a packed one (-db), or the public one where the network is there. Where neither is, it says so and checks nothing.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// accepted are vulnerabilities that are called by govulncheck's count and cannot be mended by raising a requirement.
var accepted = map[string]string{
	"GO-2026-4529": "cosign v2 has no fixed release. It is about certificate chains that cosign itself verifies; here cosign is given a public key and nothing else, and certificates are verified by sigstore-go with a timestamp.",
	"GO-2026-5932": "openpgp has no fixed release. cosign's packages import it; nothing here reads or writes OpenPGP, and the traces are initialisers and io interfaces.",
}

// govulncheck is the release that is used.
const govulncheck = "golang.org/x/vuln/cmd/govulncheck@v1.8.0"

// public is where govulncheck finds its database by itself.
const public = "https://vuln.go.dev"

func main() {
	db := flag.String("db", "../shared/vulndb", "`folder` with packed databases (vulndb-….tar.gz); the newest is used")
	flag.Parse()
	if err := run(*db); err != nil {
		fmt.Fprintf(os.Stderr, "error: supply: %v\n", err)
		os.Exit(1)
	}
}

func run(folder string) error {
	dir, err := os.MkdirTemp("", "holdfast-vulndb-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	source, err := database(folder, dir)
	if err != nil {
		return err
	}
	if source == "" {
		fmt.Printf("supply: nothing was checked: there is no database in %s and %s does not answer\n", folder, public)
		return nil
	}
	cmd := exec.Command("go", "run", govulncheck, "-format", "json", "-db", source, "./cmd/...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("gosupply: %w", err)
	}
	called, err := findings(bytes.NewReader(out))
	if err != nil {
		return err
	}
	return judge(called)
}

// database is the URL of the database to use, empty where there is none.
func database(folder, dir string) (string, error) {
	packed, err := filepath.Glob(filepath.Join(folder, "vulndb-*.tar.gz"))
	if err != nil {
		return "", err
	}
	if len(packed) > 0 {
		newest := slices.Max(packed)
		fmt.Println("supply: database", filepath.Base(newest))
		return "file://" + dir, unpack(newest, dir)
	}
	client := http.Client{Timeout: 10 * time.Second}
	response, err := client.Get(public + "/index/db.json")
	if err != nil {
		return "", nil
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return "", nil
	}
	return public, nil
}

func unpack(file, dir string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	plain, err := gzip.NewReader(f)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	into, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer into.Close()
	for files := tar.NewReader(plain); ; {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		raw, err := io.ReadAll(files)
		if err == nil {
			err = into.MkdirAll(filepath.Dir(header.Name), 0o755)
		}
		if err == nil {
			err = into.WriteFile(header.Name, raw, 0o644)
		}
		if err != nil {
			return fmt.Errorf("%s: %s: %w", file, header.Name, err)
		}
	}
}

// findings are the vulnerabilities whose code is called, each with the module that has it, out of govulncheck's stream of JSON values.
func findings(stream io.Reader) (map[string]string, error) {
	called := map[string]string{}
	for values := json.NewDecoder(stream); ; {
		var message struct {
			Finding *struct {
				OSV   string `json:"osv"`
				Trace []struct {
					Module   string `json:"module"`
					Version  string `json:"version"`
					Function string `json:"function"`
				} `json:"trace"`
			} `json:"finding"`
		}
		err := values.Decode(&message)
		if errors.Is(err, io.EOF) {
			return called, nil
		}
		if err != nil {
			return nil, fmt.Errorf("govulncheck's answer: %w", err)
		}
		if f := message.Finding; f != nil && len(f.Trace) > 0 && f.Trace[0].Function != "" {
			called[f.OSV] = f.Trace[0].Module + "@" + f.Trace[0].Version
		}
	}
}

func judge(called map[string]string) error {
	var problems []string
	for id, module := range called {
		if why, known := accepted[id]; known {
			fmt.Printf("supply: %s in %s is accepted: %s\n", id, module, why)
			continue
		}
		problems = append(problems, fmt.Sprintf("%s in %s is called: see https://pkg.go.dev/vuln/%s, raise the requirement", id, module, id))
	}
	for id := range accepted {
		if called[id] == "" {
			problems = append(problems, id+" is accepted and no longer found: take it off the list")
		}
	}
	if len(problems) > 0 {
		slices.Sort(problems)
		return errors.New(strings.Join(problems, "\n"))
	}
	fmt.Println("supply: no other vulnerability is called")
	return nil
}
