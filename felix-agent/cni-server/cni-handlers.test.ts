import { describe, expect, test } from '@jest/globals';
import type { CniDeps } from '#cni/deps.ts';
import { CniHandlers } from './cni-handlers.ts';

const handlers = new CniHandlers({
  nodeName: 'node1',
  notReadyReason: () => Promise.resolve('the datastore has not been read yet'),
  log: () => {},
} as unknown as CniDeps);
const answer = async (verb: string) => {
  const { exitCode, stdout } = await handlers.answer({
    env: { CNI_COMMAND: verb, CNI_CONTAINERID: 'c1', CNI_IFNAME: 'eth0', CNI_NETNS: '/run/netns/x' },
    stdin: '{"cniVersion":"1.0.0","name":"net"}',
  });
  return { exitCode, ...(JSON.parse(stdout) as { code?: number; msg?: string; cniVersion: string }) };
};

describe('before the takeover', () => {
  test.each(['DEL', 'CHECK', 'GC'])(
    '%s is told to try again, with the reason and the caller’s version',
    async (verb) => {
      const { exitCode, code, msg, cniVersion } = await answer(verb);
      expect({ exitCode, code, cniVersion }).toEqual({ exitCode: 1, code: 11, cniVersion: '1.0.0' });
      expect(msg).toContain('the datastore has not been read yet');
    },
  );

  test('VERSION is answered, and what is no verb is refused as such', async () => {
    expect((await answer('VERSION')).exitCode).toBe(0);
    expect(await answer('FROB')).toMatchObject({ exitCode: 1, code: 4 });
  });
});
