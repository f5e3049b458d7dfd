/** The CustomResourceDefinition of a kind, from its schema and the tables of this folder. */
import { felixField, type FelixFieldName } from '#api/felix/felix-fields.ts';
import { kinds, type KindName } from '#api/kinds.ts';
import type { CrdKind } from './kinds.ts';
import { boundedLists, maxListed, unruledLists } from './bounds.ts';
import { networkPattern } from './constraints.ts';
import { kindsWithRules } from './policy-kinds.ts';
import { rulesFor } from './rules.ts';
import type { CrdSchema } from './schema.ts';
import { structuralSchema } from './structural.ts';

/** A definition as it is written to YAML. */
export function definitionOf(kind: KindName, face: CrdKind): object {
  const { apiVersion, kind: yamlKind, plural, namespaced, schema } = kinds[kind];
  const [group = '', version = ''] = apiVersion.split('/');
  const root = { description: face.description, ...structuralSchema(schema) };
  if (kind === 'FelixConfiguration') describeSettings(root);
  for (const { at, limits, rule, message, fieldPath } of rulesFor(kind)) {
    const place = schemaAt(root, at);
    Object.assign(place, limits);
    if (rule !== undefined) {
      (place['x-kubernetes-validations'] ??= []).push({
        rule,
        message,
        ...(fieldPath === undefined ? {} : { fieldPath }),
      });
    }
  }
  if (kindsWithRules.some((known) => known === kind)) {
    for (const path of unruledLists) {
      const { 'x-kubernetes-validations': _tooCostly, ...network } = schemaAt(root, `${path}[]`);
      schemaAt(root, path).items = { pattern: networkPattern, ...network };
    }
  }
  for (const path of boundedLists[kind] ?? []) {
    schemaAt(root, path).maxItems = maxListed;
  }
  if (face.keepsUnknown) keepUnknown(schemaAt(root, 'spec'));
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: {
      name: `${plural}.${group}`,
      ...(face.approval === undefined ? {} : { annotations: { 'api-approved.kubernetes.io': face.approval } }),
    },
    spec: {
      group,
      names: {
        kind: yamlKind,
        listKind: `${yamlKind}List`,
        plural,
        singular: yamlKind.toLowerCase(),
        ...(face.shortNames.length === 0 ? {} : { shortNames: face.shortNames }),
      },
      scope: namespaced ? 'Namespaced' : 'Cluster',
      versions: [
        {
          name: version,
          served: true,
          storage: true,
          additionalPrinterColumns: face.columns,
          schema: { openAPIV3Schema: root },
          ...(root.properties?.['status'] === undefined ? {} : { subresources: { status: {} } }),
        },
      ],
    },
  };
}

/** Pruning is told for each object apart. */
function keepUnknown(schema: CrdSchema): void {
  if (schema.properties !== undefined) {
    schema['x-kubernetes-preserve-unknown-fields'] = true;
    Object.values(schema.properties).forEach(keepUnknown);
  }
  if (schema.items !== undefined) keepUnknown(schema.items);
}

/** `kubectl explain` says what each setting is for. */
function describeSettings(root: CrdSchema): void {
  for (const [name, member] of Object.entries(schemaAt(root, 'spec').properties ?? {})) {
    member.description = felixField(name as FelixFieldName).description;
  }
}

/** The schema at a path such as `spec.ingress[].source`; the root for none. Throws if there is none: the path is wrong. */
export function schemaAt(root: CrdSchema, path: string): CrdSchema {
  let place: CrdSchema | undefined = root;
  for (const step of path === '' ? [] : path.split(/\.|(?=\[\])/)) {
    place = step === '[]' ? place?.items : place?.properties?.[step];
  }
  if (place === undefined) throw new Error(`no schema at ${path}`);
  return place;
}
