import { expect, test } from '@jest/globals';
import { softirqs } from './collect-features.ts';
import { evaluate, exitStatusOf } from './evaluate.ts';
import { goodFacts, settings } from './facts-for-tests.ts';

const kernel = (option: string) => ({
  release: '6.18.2-rt',
  version: '#1 SMP PREEMPT_RT',
  realtime: '1\n',
  config: () => ({ path: '/boot/config-6.18.2-rt', text: option }),
});

test.each([
  ['iptables', '# CONFIG_PREEMPT_RT_NEEDS_BH_LOCK is not set', 'no', '/boot/config-6.18.2-rt has', 0],
  ['ebpf', '# CONFIG_PREEMPT_RT_NEEDS_BH_LOCK is not set', 'no', '/boot/config-6.18.2-rt has', 1],
  ['ebpf', 'CONFIG_PREEMPT_RT_NEEDS_BH_LOCK=y', 'yes', '6.18.2-rt #1 SMP PREEMPT_RT', 0],
] as const)(
  'where %s is wanted, on a PREEMPT_RT kernel with %s, the check of softirqs says %s',
  (wanted, option, outcome, says, status) => {
    const results = evaluate(goodFacts({ features: [softirqs(kernel(option))] }), { ...settings, wanted });
    expect(results.find(({ id }) => id === 'bpf-softirqs')).toMatchObject({
      outcome,
      detail: expect.stringContaining(says),
    });
    expect(exitStatusOf(results)).toBe(status);
  },
);
