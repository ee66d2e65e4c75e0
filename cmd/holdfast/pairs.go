package main

import (
	"fmt"
	"sort"
	"strconv"
	"strings"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// parseLabels reads "a=b,c=d" lists into site labels. What a label may be is the hub's to say.
func parseLabels(lists []string) (map[string]string, error) {
	labels := map[string]string{}
	for _, list := range lists {
		for _, pair := range strings.Split(list, ",") {
			if pair == "" {
				continue
			}
			key, value, ok := strings.Cut(pair, "=")
			if !ok || key == "" {
				return nil, fmt.Errorf("label %q: want name=value", pair)
			}
			if old, twice := labels[key]; twice && old != value {
				return nil, fmt.Errorf("label %s: given twice, as %q and as %q", key, old, value)
			}
			labels[key] = value
		}
	}
	return labels, nil
}

// labelsText writes labels in a fixed order.
func labelsText(labels map[string]string) string {
	pairs := make([]string, 0, len(labels))
	for k, v := range labels {
		pairs = append(pairs, k+"="+v)
	}
	sort.Strings(pairs)
	return strings.Join(pairs, ",")
}

// splitSets reads --set name=value flags. A value may hold "=" and ",".
func splitSets(sets []string) (map[string]string, error) {
	values := map[string]string{}
	for _, set := range sets {
		name, value, ok := strings.Cut(set, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--set %q: want name=value", set)
		}
		if _, twice := values[name]; twice {
			return nil, fmt.Errorf("--set %s: given twice", name)
		}
		values[name] = value
	}
	return values, nil
}

// typedValues gives the values the types the parameters declare: 3 is a number only where a number is wanted.
func typedValues(sets []string, parameters []bundle.Parameter) (map[string]any, error) {
	given, err := splitSets(sets)
	if err != nil || len(given) == 0 {
		return nil, err
	}
	declared := map[string]bundle.ParameterType{}
	for _, p := range parameters {
		declared[p.Name] = p.Type
	}
	values := map[string]any{}
	for name, value := range given {
		kind, ok := declared[name]
		if !ok {
			return nil, &failure{code: exitFailed, message: fmt.Sprintf("parameter %s: the bundle declares none of that name", name), hint: "holdfast bundle inspect FILE lists its parameters"}
		}
		if values[name], err = typed(kind, value); err != nil {
			return nil, fmt.Errorf("parameter %s: %w", name, err)
		}
	}
	return values, nil
}

// typed reads a value as the type.
func typed(kind bundle.ParameterType, value string) (any, error) {
	switch kind {
	case bundle.TypeInteger:
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%q is not an integer", value)
		}
		return n, nil
	case bundle.TypeBoolean:
		switch value {
		case "true", "false":
			return value == "true", nil
		}
		return nil, fmt.Errorf("%q is not true or false", value)
	}
	return value, nil
}
