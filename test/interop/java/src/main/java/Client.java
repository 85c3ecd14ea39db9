import io.tus.java.client.ProtocolException;
import io.tus.java.client.TusClient;
import io.tus.java.client.TusExecutor;
import io.tus.java.client.TusURLMemoryStore;
import io.tus.java.client.TusUpload;
import io.tus.java.client.TusUploader;
import java.io.File;
import java.io.IOException;
import java.net.URL;
import java.util.Map;

/** Uploads a file with tus-java-client: Client ENDPOINT FILE [URL to go on with]. Prints the URL. */
public final class Client {
    private static final int CHUNK = 64 * 1024;
    private static final int PAYLOAD = 2 * 1024 * 1024;

    private Client() {
    }

    private static TusUploader begin(TusClient client, TusUpload upload, String[] args)
            throws IOException, ProtocolException {
        if (args.length > 2) {
            return client.beginOrResumeUploadFromURL(upload, new URL(args[2]));
        }
        return client.resumeOrCreateUpload(upload);
    }

    public static void main(String[] args) throws Exception {
        TusClient client = new TusClient();
        client.setUploadCreationURL(new URL(args[0]));
        client.enableResuming(new TusURLMemoryStore());
        File file = new File(args[1]);
        TusExecutor executor = new TusExecutor() {
            @Override
            protected void makeAttempt() throws ProtocolException, IOException {
                TusUpload upload = new TusUpload(file);
                upload.setMetadata(Map.of("filename", file.getName()));
                TusUploader uploader = begin(client, upload, args);
                System.out.println(uploader.getUploadURL());
                uploader.setChunkSize(CHUNK);
                uploader.setRequestPayloadSize(PAYLOAD);
                while (uploader.uploadChunk() > -1) {
                    continue;
                }
                uploader.finish();
            }
        };
        executor.setDelays(new int[] {100, 500, 1000});
        executor.makeAttempts();
    }
}
