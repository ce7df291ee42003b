import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.table.api.TableResult;

/**
 * Apache Flink SQL counts the events, in one process with one slot: state on the heap, objects reused, results
 * discarded (Cambium's are written to ClickHouse).
 *
 * <pre>java -cp 'jars/*' Peer.java BROKERS TOPIC uniques-and-sessions|funnel EVENTS PATIENCE_SECONDS</pre>
 *
 * Prints a line of JSON: from the start of the job, with its planning, to its end. What does not end within the
 * patience says how long it had.
 */
public final class Peer {
    /** Events come up to ten minutes late, and all of them count. */
    private static final String WATERMARK = "WATERMARK FOR ts AS ts - INTERVAL '10' MINUTE";

    /** What the jobs need; Flink parses no more than that. */
    private static final String FIELDS = "event STRING, user_id STRING, `timestamp` BIGINT, platform STRING";

    private static final String UNIQUES = "INSERT INTO uniques SELECT window_start, platform, COUNT(DISTINCT user_id) "
            + "FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) "
            + "GROUP BY window_start, window_end, platform";

    private static final String SESSIONS = "INSERT INTO sessions SELECT user_id, window_start, window_end, COUNT(*) "
            + "FROM TABLE(SESSION(TABLE events PARTITION BY user_id, DESCRIPTOR(ts), INTERVAL '30' MINUTE)) "
            + "GROUP BY user_id, window_start, window_end";

    private static final String FUNNEL = "INSERT INTO funnel SELECT user_id, bought FROM events MATCH_RECOGNIZE ("
            + "PARTITION BY user_id ORDER BY ts MEASURES D.ts AS bought ONE ROW PER MATCH AFTER MATCH SKIP PAST LAST ROW "
            + "PATTERN (A X*? B Y*? C Z*? D) WITHIN INTERVAL '1' DAY "
            + "DEFINE A AS A.event = 'view', B AS B.event = 'cart', C AS C.event = 'checkout', D AS D.event = 'buy')";

    public static void main(String[] arguments) throws Exception {
        String brokers = arguments[0];
        String topic = arguments[1];
        String job = arguments[2];
        long events = Long.parseLong(arguments[3]);
        long patience = Long.parseLong(arguments[4]);

        Configuration configuration = new Configuration();
        configuration.setString("parallelism.default", "1");
        configuration.setString("pipeline.object-reuse", "true");
        TableEnvironment flink = TableEnvironment.create(
                EnvironmentSettings.newInstance().inStreamingMode().withConfiguration(configuration).build());
        flink.getConfig().set("table.local-time-zone", "UTC");
        flink.executeSql("CREATE TABLE events (" + FIELDS + ", ts AS TO_TIMESTAMP_LTZ(`timestamp`, 3), " + WATERMARK
                + ") WITH ('connector' = 'kafka', 'topic' = '" + topic + "', 'properties.bootstrap.servers' = '" + brokers
                + "', 'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset', 'format' = 'json')");
        sink(flink, "uniques", "minute_start TIMESTAMP(3), platform STRING, users BIGINT");
        sink(flink, "sessions", "user_id STRING, started TIMESTAMP(3), ended TIMESTAMP(3), events BIGINT");
        sink(flink, "funnel", "user_id STRING, bought TIMESTAMP_LTZ(3)");

        OperatingSystemMXBean system = ManagementFactory.getPlatformMXBean(OperatingSystemMXBean.class);
        long begun = System.nanoTime();
        long processor = system.getProcessCpuTime();
        boolean ended = await(start(flink, job), patience);
        System.out.printf(Locale.ROOT,
                "{\"who\":\"Flink SQL, %s\",\"events\":%d,\"seconds\":%.3f,\"processor_seconds\":%.3f,"
                        + "\"peak_bytes\":%d,\"is_finished\":%b}%n",
                job.replace('-', ' '), events, (System.nanoTime() - begun) / 1e9,
                (system.getProcessCpuTime() - processor) / 1e9, peakBytes(), ended);
        // A job that has not ended would keep the process.
        System.exit(0);
    }

    private static void sink(TableEnvironment flink, String name, String columns) {
        flink.executeSql("CREATE TABLE " + name + " (" + columns + ") WITH ('connector' = 'blackhole')");
    }

    private static TableResult start(TableEnvironment flink, String job) {
        switch (job) {
            case "uniques-and-sessions":
                return flink.createStatementSet().addInsertSql(UNIQUES).addInsertSql(SESSIONS).execute();
            case "funnel":
                return flink.executeSql(FUNNEL);
            default:
                throw new IllegalArgumentException("no job is called " + job);
        }
    }

    private static boolean await(TableResult result, long seconds) throws Exception {
        try {
            result.await(seconds, TimeUnit.SECONDS);
            return true;
        } catch (TimeoutException late) {
            return false;
        }
    }

    private static long peakBytes() throws Exception {
        for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
            if (line.startsWith("VmHWM:")) {
                return Long.parseLong(line.replaceAll("[^0-9]", "")) * 1024;
            }
        }
        return 0;
    }
}
