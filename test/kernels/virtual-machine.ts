import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { type Ending, marks } from './outcome.ts';

/** What to boot, and how long it may take. */
export interface MachineSpec {
  /** Path of a vmlinuz. */
  readonly kernel: string;
  /** Path of the initramfs, whose `/init` prints the marks. */
  readonly initrd: string;
  /** File that the kernel's console is written to. */
  readonly consoleFile: string;
  /** From the start of the emulator to the mark `up`. */
  readonly bootLimitMs: number;
  /** From there to the machine's end. */
  readonly runLimitMs: number;
}

/** Emulated machines; one object may run many. */
export class VirtualMachine {
  readonly #emulator: string;

  /** @param emulator program on PATH, or its path */
  constructor(emulator = 'qemu-system-x86_64') {
    this.#emulator = emulator;
  }

  /**
   * Boots a machine and waits for its end; whatever happens, the emulator is gone afterwards, even when this process is killed.
   * @param onLine gets each line of the second serial port, on which the tests print
   * @param signal its abort ends the machine; the promise is rejected with its reason then
   * @throws Error with the emulator's words if it can't be started or fails
   */
  async run(spec: MachineSpec, onLine: (line: string) => void, signal: AbortSignal): Promise<Ending> {
    signal.throwIfAborted();
    // setpriv: the kernel ends the emulator together with this process.
    const child = spawn('setpriv', ['--pdeathsig=KILL', this.#emulator, ...emulatorArgs(spec)], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let ending: Ending = 'itself';
    const end = (why: Ending): void => {
      ending = why;
      child.kill('SIGKILL');
    };
    const kill = (): void => void child.kill('SIGKILL');
    let timer = setTimeout(end, spec.bootLimitMs, 'boot-limit');
    signal.addEventListener('abort', kill);
    let errors = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (errors += text));
    createInterface({ input: child.stdout }).on('line', (line) => {
      if (line.startsWith(marks.up)) {
        clearTimeout(timer);
        timer = setTimeout(end, spec.runLimitMs, 'run-limit');
      }
      onLine(line);
    });
    try {
      const status = await endOf(child);
      signal.throwIfAborted();
      if (ending === 'itself' && status !== 0)
        throw new Error(`${this.#emulator} failed (${status}): ${errors.trim() || 'it said nothing'}`);
      return ending;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', kill);
    }
  }
}

async function endOf(child: ChildProcess): Promise<number | string> {
  const [status, signal] = (await once(child, 'close')) as [number | null, string | null];
  return status ?? signal ?? 'no status';
}

/**
 * TCG, not KVM: the same on every machine, nested virtual ones too. Two processors, since maps and grace periods are per processor.
 * The CPU is all that TCG has, but for cmpxchg16b: in QEMU 7.2 an interrupt at it now and then leaves an address in the flags register,
 * and kernels from 6.5 on, whose allocator lives by that instruction, oops while they boot.
 */
function emulatorArgs(spec: MachineSpec): string[] {
  return [
    ...['-accel', 'tcg,thread=multi', '-cpu', 'max,cx16=off', '-smp', '2', '-m', '2048'],
    ...['-display', 'none', '-monitor', 'none', '-nic', 'none', '-no-reboot', '-no-user-config'],
    ...['-serial', `file:${spec.consoleFile}`, '-serial', 'stdio'],
    ...['-kernel', spec.kernel, '-initrd', spec.initrd],
    // With -no-reboot a panic ends the emulator at once; an oops counts as one, since nothing after it is worth believing.
    ...['-append', 'console=ttyS0 loglevel=5 oops=panic panic=-1'],
  ];
}
