import { Box, Text } from 'ink';
import { DEMO_STEPS, type DemoSnapshot } from '../../engine/demo/demo.ts';
import { bar, formatCount, oneLine } from '../terminal/format.ts';
import { STEP_TITLES } from './steps.ts';

const SPINNER = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
const TITLE_WIDTH = 24;
const RECENT = 5;

/** The running demo. `tick` turns the spinner. Every frame is `width` cells wide and has the same height. */
export function DemoView({ snapshot, tick, width }: { snapshot: DemoSnapshot; tick: number; width: number }) {
  const current = DEMO_STEPS.indexOf(snapshot.step);
  const resultWidth = Math.max(10, width - TITLE_WIDTH - 4);
  return (
    <Box flexDirection="column" width={width}>
      {DEMO_STEPS.map((step, index) => {
        const result = snapshot.done[step];
        const title = STEP_TITLES[step].padEnd(TITLE_WIDTH);
        if (result !== undefined) {
          return (
            <Text key={step} wrap="truncate">
              <Text color="green">✔</Text> {title} <Text dimColor>{oneLine(result, resultWidth)}</Text>
            </Text>
          );
        }
        if (index !== current) return <Text key={step} dimColor>{`  ${title}`}</Text>;
        return (
          <Text key={step} wrap="truncate">
            <Text color="cyan">{SPINNER[tick % SPINNER.length]}</Text> <Text bold>{title}</Text>{' '}
            {snapshot.fraction === undefined ? '' : bar(snapshot.fraction, Math.min(30, resultWidth))}
          </Text>
        );
      })}
      <Text wrap="truncate">
        {`\n  ${formatCount(snapshot.posts)} posts   ${formatCount(snapshot.deliveries)} deliveries   `}
        {`${formatCount(snapshot.pushed)} pushed to sockets`}
      </Text>
      {Array.from({ length: RECENT }, (_, line) => {
        const post = snapshot.recent[line];
        return (
          // biome-ignore lint/suspicious/noArrayIndexKey: a fixed number of lines
          <Text key={line} dimColor wrap="truncate">
            {post
              ? oneLine(`  → reader ${post.readerId} sees ${post.authorId}: ${post.text}`, width - 1)
              : ' '}
          </Text>
        );
      })}
    </Box>
  );
}
