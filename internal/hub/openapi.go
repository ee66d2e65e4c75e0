package hub

import (
	"encoding"
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/buildinfo"
)

// object is a JSON object under construction.
type object = map[string]any

// schemas are JSON schemas made of Go types, so that the document says what the code does.
type schemas object

var (
	timeType      = reflect.TypeFor[time.Time]()
	rawType       = reflect.TypeFor[json.RawMessage]()
	marshalerType = reflect.TypeFor[json.Marshaler]()
	textType      = reflect.TypeFor[encoding.TextMarshaler]()
)

// of gives the schema of a type; structs with a name are put aside and referred to.
func (s schemas) of(t reflect.Type) object {
	switch {
	case t == timeType:
		return object{"type": "string", "format": "date-time"}
	case t == rawType:
		return object{} // any JSON
	case t.Kind() == reflect.Pointer:
		return s.of(t.Elem())
	case t.Implements(textType), reflect.PointerTo(t).Implements(textType):
		return object{"type": "string"}
	case t.Implements(marshalerType), reflect.PointerTo(t).Implements(marshalerType):
		return object{} // it writes itself
	}
	switch t.Kind() {
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return object{"type": "integer"}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return object{"type": "integer", "minimum": 0}
	case reflect.Float32, reflect.Float64:
		return object{"type": "number"}
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return object{"type": []string{"string", "null"}, "contentEncoding": "base64"}
		}
		return object{"type": []string{"array", "null"}, "items": s.of(t.Elem())}
	case reflect.Map:
		return object{"type": []string{"object", "null"}, "additionalProperties": s.of(t.Elem())}
	case reflect.Struct:
		return s.reference(t)
	}
	return object{} // an interface: any JSON
}

func (s schemas) reference(t reflect.Type) object {
	if t.Name() == "" {
		return s.structure(t)
	}
	name := t.Name()
	if base := path.Base(t.PkgPath()); base != "api" {
		name = base + "." + name
	}
	if _, made := s[name]; !made {
		s[name] = object{} // before its fields, which may refer to it
		s[name] = s.structure(t)
	}
	return object{"$ref": "#/components/schemas/" + name}
}

func (s schemas) structure(t reflect.Type) object {
	properties, required := object{}, []string{}
	var add func(t reflect.Type, always bool)
	add = func(t reflect.Type, always bool) {
		for f := range fields(t) {
			name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			switch {
			case name == "-" || !f.IsExported() && !f.Anonymous:
				continue
			case f.Anonymous && name == "":
				if f.Type.Kind() == reflect.Pointer {
					add(f.Type.Elem(), false)
				} else {
					add(f.Type, always)
				}
				continue
			case name == "":
				name = f.Name
			}
			properties[name] = s.of(f.Type)
			if !always || strings.Contains(options, "omit") {
				continue
			}
			required = append(required, name)
			if f.Type.Kind() == reflect.Pointer {
				properties[name] = object{"anyOf": []any{properties[name], object{"type": "null"}}}
			}
		}
	}
	add(t, true)
	slices.Sort(required)
	return object{"type": "object", "properties": properties, "required": required, "additionalProperties": false}
}

func fields(t reflect.Type) func(yield func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for i := range t.NumField() {
			if !yield(t.Field(i)) {
				return
			}
		}
	}
}

var pathParameter = regexp.MustCompile(`\{([a-z]+)\}`)

// document is the OpenAPI document of the routes.
func document(routes []route) ([]byte, error) {
	all, paths := schemas{}, object{}
	problem := object{"description": "Refused, and why", "content": object{api.ProblemType: object{"schema": all.of(reflect.TypeFor[api.Problem]())}}}
	for _, rt := range routes {
		method, path, _ := strings.Cut(rt.pattern, " ")
		here, _ := paths[path].(object)
		if here == nil {
			here = object{}
			paths[path] = here
		}
		here[strings.ToLower(method)] = rt.operation(all, problem)
	}
	return json.MarshalIndent(object{
		"openapi": "3.1.0",
		"info": object{
			"title": "Holdfast", "version": buildinfo.Version(),
			"description": "The hub's API. A write may carry an Idempotency-Key: the same request under it is carried out once. Lists with a limit say in a Link header where they go on. " +
				"A refusal is a problem document (RFC 9457).",
		},
		"security":   []any{object{"token": []string{}}},
		"paths":      paths,
		"components": object{"securitySchemes": object{"token": object{"type": "http", "scheme": "bearer"}}, "schemas": all},
	}, "", "  ")
}

func (rt route) operation(all schemas, problem object) object {
	parameters := []any{}
	for _, name := range pathParameter.FindAllStringSubmatch(rt.pattern, -1) {
		parameters = append(parameters, object{"name": name[1], "in": "path", "required": true, "schema": object{"type": "string"}})
	}
	for _, q := range rt.query {
		parameters = append(parameters, object{"name": q.name, "in": "query", "description": q.about, "schema": q.schema})
	}
	operation := object{
		"summary": rt.about, "description": fmt.Sprintf("Least role: %s. %s", rt.least, reachTexts[rt.reach]), "x-least-role": string(rt.least), "parameters": parameters,
	}
	if rt.what != "" {
		operation["parameters"] = append(parameters, object{"name": "Idempotency-Key", "in": "header", "schema": object{"type": "string", "maxLength": maxIdempotencyKey}})
	}
	answer := object{"description": "Done"}
	switch {
	case rt.gives != nil && rt.foresees:
		answer["description"] = "Done, or with dryRun=true what it would take away"
		answer["content"] = object{"application/json": object{"schema": object{"anyOf": []any{all.of(rt.gives), all.of(reflect.TypeFor[api.Impact]())}}}}
	case rt.gives != nil:
		answer["content"] = object{"application/json": object{"schema": all.of(rt.gives)}}
	case rt.kind != "":
		answer["content"] = object{rt.kind: object{}}
	}
	operation["responses"] = object{"200": answer, "default": problem}
	if rt.takes != nil {
		operation["requestBody"] = object{"required": true, "content": object{"application/json": object{"schema": all.of(rt.takes)}}}
	} else if strings.HasPrefix(rt.pattern, "POST ") {
		operation["requestBody"] = object{"required": true, "content": object{"application/octet-stream": object{}}}
	}
	return operation
}

var reachTexts = map[reach]string{
	fleetWide: "A user with a scope is refused.", inScope: "A user with a scope sees and touches the sites in it alone.", siteless: "It says nothing of sites.",
}

// getOpenAPI serves the document of the table of routes.
func (h *Hub) getOpenAPI() http.HandlerFunc {
	made := sync.OnceValues(func() ([]byte, error) { return document(h.table()) })
	return func(w http.ResponseWriter, _ *http.Request) {
		raw, err := made()
		if err != nil {
			writeProblem(w, problemOf(fmt.Errorf("openapi: %w", err)))
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write(raw) // the client is gone if this fails
	}
}
