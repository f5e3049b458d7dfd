import { systemClock } from '#api/clock.ts';
import { parseCommandLine, readBootstrap } from '../config/bootstrap.ts';
import { createAgent } from '../container.ts';
import { HeapGrowth } from '../heap-growth.ts';
import { createLog } from '../log.ts';
import { lockNode } from '../node-lock.ts';
import { KernelFileLock } from '#native/flock.ts';
import type { Command } from './command.ts';

export const agentCommand: Command = {
  name: 'agent',
  usage: 'agent',
  summary: "runs this node's agent until SIGTERM or SIGINT",
  async run(args, env) {
    const { flags } = parseCommandLine(args);
    const settings = readBootstrap(flags, env);
    if (process.getuid?.() !== 0) throw new Error('must run as root: it programs routes, rules and BPF');
    const log = createLog(settings.nodeName);
    using _lock = await lockNode(settings, new KernelFileLock(), log);
    const agent = await createAgent(settings, log);
    const stop = Promise.withResolvers<string>();
    const onSignal = (signal: NodeJS.Signals) => stop.resolve(signal);
    process.on('SIGTERM', onSignal).on('SIGINT', onSignal);
    using heap = new DisposableStack();
    const failed = agent.start().then(
      () => {
        // Not before: a start would spend a fifth of its time in collections.
        heap.use(new HeapGrowth(systemClock));
        return stop.promise;
      },
      (error: unknown) => {
        log.fatal({ err: error }, 'the agent cannot start');
        return 'failure';
      },
    );
    const reason = await Promise.race([failed, stop.promise]);
    log.info({ reason }, 'stopping; what is programmed stays');
    await agent.stop();
    log.info('stopped');
    return reason === 'failure' ? 1 : 0;
  },
};
