import { expect, test } from '@jest/globals';
import type { FlowDeletion } from '../../flows.ts';
import { forgetStaleDatagrams, type StaleDatagramsDeps } from './stale-datagrams.ts';

/** Services at one address of which flows may be stale. */
function bed(parts: Partial<Pick<StaleDatagramsDeps, 'grace'>> & { readonly outcome?: FlowDeletion } = {}) {
  let left: readonly string[] = ['10.96.0.1'];
  const asked: unknown[] = [];
  const warnings: string[] = [];
  const deps: StaleDatagramsDeps = {
    services: {
      takeLeft: () => {
        const taken = left;
        left = [];
        return taken;
      },
      putBackLeft: (addresses) => (left = addresses),
      isStale: () => true,
    },
    flows: {
      delete: async (filter) => {
        asked.push(filter);
        return parts.outcome ?? { deleted: 1, failed: [] };
      },
    },
    grace: parts.grace ?? (async () => {}),
    log: { warn: (text) => warnings.push(text) },
  };
  return { deps, asked, warnings, left: () => left };
}

test('datagrams at the addresses are looked at once', async () => {
  const { deps, asked, left } = bed();
  await forgetStaleDatagrams(deps);
  await forgetStaleDatagrams(deps);
  expect(asked).toEqual([{ addresses: ['10.96.0.1'], protocol: 17 }]);
  expect(left()).toEqual([]);
});

test('what could not be deleted is said, and tried with the next call', async () => {
  const { deps, warnings, left } = bed({ outcome: { deleted: 0, failed: ['a map'] } });
  await forgetStaleDatagrams(deps);
  expect(left()).toEqual(['10.96.0.1']);
  expect(warnings).toHaveLength(1);
});

test('nothing is lost where the grace period fails', async () => {
  const failure = Object.assign(new Error('no memory'), { code: 'ENOMEM' });
  const { deps, asked, left } = bed({ grace: () => Promise.reject(failure) });
  await expect(forgetStaleDatagrams(deps)).rejects.toMatchObject({ code: 'ENOMEM' });
  expect(asked).toEqual([]);
  expect(left()).toEqual(['10.96.0.1']);
});
