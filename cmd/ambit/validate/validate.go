// Package validate is `ambit validate`: what is wrong with these manifests, or not what their author will expect?
//
// It reads files and prints what controller/validate finds, which is what the admission webhook says, with file and line. It
// contacts nobody. Used by cmd/ambit.
package validate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/ambit-mesh/ambit/controller/strict"
	"github.com/ambit-mesh/ambit/controller/validate"
)

// result is what there is to say about one file.
type result struct {
	File    string            `json:"file"`
	Objects []validate.Report `json:"objects"`
}

type options struct {
	files    []string
	output   string
	quiet    bool
	strict   bool
	settings validate.Settings
}

// Command is the sub-command.
func Command() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use: "validate [-f FILE|DIR|-]...", Aliases: []string{"v"},
		Short: "Say what is wrong with manifests, by file, line and field",
		Long: `Checks manifests as the mesh's admission webhook does, without a cluster: unknown fields, contradictions, values that
cannot be, rules that node proxies cannot enforce, misspelt labels and annotations of the mesh on any object.

An error is what the webhook refuses, a warning does something else than it seems to, information is good to know.
Exit status: 0 without errors, 1 with errors or what could not be read (with --strict, with warnings too).`,
		Example: `  ambit validate -f policies/
  kubectl get authorizationpolicies -A -o yaml | ambit validate -f - -o json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.files = append(o.files, args...)
			if len(o.files) == 0 {
				return errors.New("nothing to validate: name files with -f")
			}
			if o.output != "text" && o.output != "json" {
				return fmt.Errorf("output %q: want text or json", o.output)
			}
			return o.run(cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&o.files, "filename", "f", nil, "file, folder (its .yaml, .yml and .json files, at any depth) or - for standard input; may be repeated")
	f.StringVarP(&o.output, "output", "o", "text", "text or json")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "errors only")
	f.BoolVar(&o.strict, "strict", false, "warnings are errors")
	f.StringVarP(&o.settings.RootNamespace, "root-namespace", "i", "istio-system", "namespace whose policies hold for the mesh")
	return cmd
}

func (o options) run(in io.Reader, out io.Writer) error {
	texts, err := read(o.files, in)
	if err != nil {
		return err
	}
	results := []result{}
	count := map[validate.Severity]int{}
	objects := 0
	for _, t := range texts {
		r := result{File: t.name, Objects: reports(t.text, o.settings)}
		for i := range r.Objects {
			objects++
			list := &r.Objects[i].Findings
			*list = slices.DeleteFunc(*list, func(f validate.Finding) bool { return o.quiet && f.Severity != validate.Error })
			for _, f := range *list {
				count[f.Severity]++
			}
		}
		results = append(results, r)
	}
	if o.output == "json" {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		err = enc.Encode(results)
	} else {
		err = print(out, results)
	}
	bad := count[validate.Error]
	if o.strict {
		bad += count[validate.Warning]
	}
	switch {
	case err != nil:
		return err
	case bad > 0:
		return fmt.Errorf("%s and %s in %s", plural(count[validate.Error], "error"), plural(count[validate.Warning], "warning"), plural(len(texts), "file"))
	case o.output == "text":
		_, err = fmt.Fprintf(out, "%s in %s: no errors, %s\n", plural(objects, "object"), plural(len(texts), "file"), plural(count[validate.Warning], "warning"))
	}
	return err
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// reports checks every document of a text; the same object twice in it is an error.
func reports(text []byte, set validate.Settings) []validate.Report {
	out := []validate.Report{}
	lines := map[string]int{}
	for doc, err := range strict.Read(text) {
		if err != nil {
			f := validate.Finding{Severity: validate.Error, Field: err.Field, Line: err.Line, Message: err.Reason}
			out = append(out, validate.Report{Line: err.Line, Findings: []validate.Finding{f}})
			continue
		}
		r := validate.Document(doc, set)
		id := r.Group + "/" + r.Object
		if line, twice := lines[id]; twice && r.Known {
			r.Findings = append(r.Findings, validate.Finding{
				Severity: validate.Error, Field: "metadata.name", Line: doc.LineOf("metadata.name"), Message: fmt.Sprintf("same object as in line %d", line),
			})
		}
		lines[id] = doc.Line()
		out = append(out, r)
	}
	return out
}

// print writes file:line: severity: object: field: words, which editors and CI systems find their way by.
func print(out io.Writer, results []result) error {
	for _, r := range results {
		for _, o := range r.Objects {
			for _, f := range o.Findings {
				object := ""
				if o.Object != "" {
					object = o.Object + ": "
				}
				if _, err := fmt.Fprintf(out, "%s:%d: %s: %s%s\n", r.File, f.Line, f.Severity, object, f); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
