// Command crdcheck does with CustomResourceDefinitions and objects what an API server does with them, by the API server's own code:
// a definition is decoded strictly, defaulted and validated (structural schema, defaults, CEL with its cost limits), an object is pruned,
// defaulted and validated (schema, list types, CEL), on creation or, when there is an old one, on update.
//
// It reads one request as JSON from stdin and writes one answer as JSON to stdout.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	schemavalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	metavalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"
)

// request holds definitions as YAML text, and objects to check against them. Old is set for an update.
type request struct {
	Definitions []string `json:"definitions"`
	Objects     []struct {
		Definition string         `json:"definition"`
		Object     map[string]any `json:"object"`
		Old        map[string]any `json:"old,omitempty"`
	} `json:"objects"`
}

// answer is in the request's order. No problems: accepted.
type answer struct {
	Definitions [][]problem    `json:"definitions"`
	Objects     []objectAnswer `json:"objects"`
}

type objectAnswer struct {
	Problems []problem `json:"problems"`
	// Unknown are the paths of fields that were pruned.
	Unknown []string `json:"unknown"`
	// Object is what would be stored.
	Object map[string]any `json:"object"`
}

type problem struct {
	Type   string `json:"type"`
	Field  string `json:"field"`
	Detail string `json:"detail"`
}

func problemsOf(errs field.ErrorList) []problem {
	problems := []problem{}
	for _, err := range errs {
		problems = append(problems, problem{string(err.Type), err.Field, err.Detail})
	}
	return problems
}

// definition is a valid CRD, ready to check objects. It has one version, which is served and stored.
type definition struct {
	namespaced bool
	structural *structuralschema.Structural
	schema     schemavalidation.SchemaValidator
	rules      *cel.Validator
}

// load returns the definition's name and, if it has no problems, what checks its objects.
func load(ctx context.Context, text string) (string, *definition, []problem, error) {
	external := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.UnmarshalStrict([]byte(text), external); err != nil {
		return "", nil, nil, fmt.Errorf("decode: %w", err)
	}
	apiextensionsv1.SetObjectDefaults_CustomResourceDefinition(external)
	internal := &apiextensions.CustomResourceDefinition{}
	if err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(external, internal, nil); err != nil {
		return "", nil, nil, fmt.Errorf("convert %s: %w", external.Name, err)
	}
	// As the API server's strategy does on creation: what is stored now is this version.
	internal.Status.StoredVersions = []string{external.Spec.Versions[0].Name}
	if errs := crdvalidation.ValidateCustomResourceDefinition(ctx, internal); len(errs) > 0 {
		return external.Name, nil, problemsOf(errs), nil
	}
	props, err := apiextensions.GetSchemaForVersion(internal, external.Spec.Versions[0].Name)
	if err != nil {
		return "", nil, nil, err
	}
	structural, err := structuralschema.NewStructural(props.OpenAPIV3Schema)
	if err != nil {
		return "", nil, nil, fmt.Errorf("structural schema of %s: %w", external.Name, err)
	}
	if err := defaulting.PruneDefaults(structural); err != nil {
		return "", nil, nil, fmt.Errorf("defaults of %s: %w", external.Name, err)
	}
	schema, _, err := schemavalidation.NewSchemaValidator(props.OpenAPIV3Schema)
	if err != nil {
		return "", nil, nil, fmt.Errorf("validator of %s: %w", external.Name, err)
	}
	return external.Name, &definition{
		namespaced: external.Spec.Scope == apiextensionsv1.NamespaceScoped,
		structural: structural,
		schema:     schema,
		rules:      cel.NewValidator(structural, true, celconfig.PerCallLimit),
	}, []problem{}, nil
}

// admit changes the object as it would be stored and returns what was pruned.
func (d *definition) admit(object map[string]any) []string {
	unknown := pruning.PruneWithOptions(object, d.structural, true, structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	defaulting.PruneNonNullableNullsWithoutDefaults(object, d.structural)
	defaulting.Default(object, d.structural)
	return unknown
}

// check follows customResourceStrategy.Validate and ValidateUpdate: CEL runs only on what has the right shape.
func (d *definition) check(ctx context.Context, object, old map[string]any) []problem {
	u := &unstructured.Unstructured{Object: object}
	var errs field.ErrorList
	if old == nil {
		errs = metavalidation.ValidateObjectMetaAccessor(u, d.namespaced, metavalidation.NameIsDNSSubdomain, field.NewPath("metadata"))
	}
	errs = append(errs, schemavalidation.ValidateCustomResource(nil, object, d.schema)...)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, d.structural, object)...)
	if !blocksRules(errs) {
		var before any
		if old != nil {
			before = old
		}
		broken, _ := d.rules.Validate(ctx, nil, d.structural, object, before, celconfig.RuntimeCELCostBudget)
		errs = append(errs, broken...)
	}
	return problemsOf(errs)
}

// blocksRules tells whether the API server would leave CEL out: a value is missing, has a wrong type, or there are too many.
func blocksRules(errs field.ErrorList) bool {
	for _, err := range errs {
		switch err.Type {
		case field.ErrorTypeNotSupported, field.ErrorTypeRequired, field.ErrorTypeTooLong, field.ErrorTypeTooMany, field.ErrorTypeTypeInvalid:
			return true
		}
	}
	return false
}

func run() error {
	ctx := context.Background()
	var in request
	// Whole numbers must stay whole: structural types tell integers from floats.
	if err := decode(os.Stdin, &in); err != nil {
		return fmt.Errorf("request: %w", err)
	}
	out := answer{Definitions: [][]problem{}, Objects: []objectAnswer{}}
	definitions := map[string]*definition{}
	for _, text := range in.Definitions {
		name, loaded, problems, err := load(ctx, text)
		if err != nil {
			return err
		}
		definitions[name] = loaded
		out.Definitions = append(out.Definitions, problems)
	}
	for _, item := range in.Objects {
		d := definitions[item.Definition]
		if d == nil {
			return fmt.Errorf("no valid definition %q", item.Definition)
		}
		if item.Old != nil {
			d.admit(item.Old)
		}
		unknown := d.admit(item.Object)
		if unknown == nil {
			unknown = []string{}
		}
		problems := d.check(ctx, item.Object, item.Old)
		out.Objects = append(out.Objects, objectAnswer{problems, unknown, item.Object})
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "crdcheck:", err)
		os.Exit(1)
	}
}
