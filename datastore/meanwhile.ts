import type { KindName } from '#api/kinds.ts';
import { isEnforcedPolicyKind } from '#api/policy/closed.ts';
import type { Directions } from '#api/policy/types-of.ts';
import type { ProblemEffect } from './datastore.ts';

/** What holds while an object can't be used, in words. `denies`: what its replacement denies, where there is one. */
export function meanwhileText(kind: KindName, effect: ProblemEffect, denies: Directions | undefined): string {
  switch (effect) {
    case 'last-valid':
      return 'its last valid version stays in force';
    case 'denies':
      return `until it is mended it denies ${directionsText(denies)} of what its selector selects`;
    case 'ignored':
      return isEnforcedPolicyKind(kind) ? "it is ignored: its name or its selector can't be used" : 'it is ignored';
  }
}

function directionsText(directions: Directions | undefined): string {
  return (['ingress', 'egress'] as const).filter((direction) => directions?.[direction]).join(' and ');
}
